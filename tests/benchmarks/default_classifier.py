"""The default final classifier beside scikit-learn's logistic regression, on pseudo-unseen classes.

    python -m tests.benchmarks.default_classifier cub50 cub127

Both are trained on real rows and on synthetic rows of a diffusion host trained for 60 steps, and
scored on rows of training classes alone. Data folders are looked for in ``$D3_DATA``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from d3_adapters.diffusion import DiffusionSettings, DiffusionTrainer
from d3_plugin.data import GZSLData, load, pseudo_unseen
from d3_plugin.data.validation import without_test_rows
from d3_plugin.evaluation.result import mean_metrics
from d3_plugin.evaluation.softmax import train_default
from d3_plugin.report.statistics import interval
from d3_plugin.report.tables import cell

SEEDS = 5


def logistic(features: Tensor, labels: Tensor, num_classes: int) -> Callable[[Tensor], Tensor]:
    model = LogisticRegression(max_iter=1000).fit(features.numpy(), labels.numpy())
    return lambda rows: torch.from_numpy(model.predict_log_proba(rows.numpy()))


def figures(data: GZSLData, seed: int) -> list[float]:
    """H, AUSUC and CPU seconds of the default, then of the logistic regression."""
    trainer = DiffusionTrainer(data, DiffusionSettings(steps=60, hidden=256), seed)
    trainer.fit()
    synthetic = data.unseen_classes.repeat_interleave(200)
    with torch.no_grad():
        features = torch.cat([data.train_features, trainer.synthesize(synthetic)])
    labels = torch.cat([data.train_labels, synthetic])
    rows = torch.cat([data.test_seen_features, data.test_unseen_features])
    truth = torch.cat([data.test_seen_labels, data.test_unseen_labels]).numpy()
    made = []
    for train in (train_default, logistic):
        started = time.process_time()
        classifier = train(features, labels, data.num_classes)
        seconds = time.process_time() - started
        with torch.no_grad():
            scores = classifier(rows).numpy()[None]
        classes = data.seen_classes.numpy(), data.unseen_classes.numpy()
        metrics = mean_metrics(scores, truth, *classes)
        made += [metrics.harmonic, metrics.ausuc, seconds]
    return made


def main() -> None:
    torch.set_num_threads(1)
    print("| data | features | H | ΔH | AUSUC | ΔAUSUC | s, softmax | s, logistic |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in sys.argv[1:]:
        for scaled in (True, False):
            found = []
            for seed in range(SEEDS):
                data = pseudo_unseen(without_test_rows(load(name)), seed=seed)
                found.append(figures(data.scaled() if scaled else data, seed))
            h, ausuc, seconds, *of_logistic = zip(*found, strict=True)
            words = [name, "[0, 1]" if scaled else "raw"]
            for own, other in ((h, of_logistic[0]), (ausuc, of_logistic[1])):
                difference = interval(a - b for a, b in zip(own, other, strict=True))
                words += [cell(interval(own)), cell(difference, signed=True)]
            words += [f"{sum(s) / SEEDS:.1f}" for s in (seconds, of_logistic[2])]
            print("|", " | ".join(words), "|", flush=True)


if __name__ == "__main__":
    main()
