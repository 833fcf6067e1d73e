"""Why D³ gains more on some data: its teacher beside the host's final classifier.

    python docs/tools/when_it_helps.py digits cub50 flo64 cub127

Diffusion hosts at their default settings, on three pseudo-unseen cuts of each data set (of
``digits``, one cut of each of three draws); no test rows. Data folders are looked for in
``$D3_DATA``. Prints a table in Markdown, percent.

- teacher, softmax: accuracy on held-back seen rows among the seen classes, of D³'s teacher and of
  the host's final softmax.
- longer: the same of a softmax that is trained until it fits (the package's default classifier).
- AUSUC of the host with its softmax; what D³ adds to it; what the longer training alone adds; what
  D³ adds to that.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from d3_adapters.diffusion import DiffusionSettings, DiffusionTrainer
from d3_plugin import D3Settings, attach
from d3_plugin.data import GZSLData, load, pseudo_unseen, without_test_rows
from d3_plugin.data.digits import load_digits_gzsl
from d3_plugin.evaluation.metrics import per_class_accuracy
from d3_plugin.evaluation.softmax import train_default
from d3_plugin.report.statistics import interval
from d3_plugin.report.tables import cell

CUTS = (0, 1, 2)
SETTINGS = D3Settings(weight=0, student_start="semantic", synthetic_rows=64, real_rows=64)
COLUMNS = ("teacher", "softmax", "longer", "AUSUC", "+D³", "longer, AUSUC", "longer, +D³")


def figures(data: GZSLData, seed: int) -> list[float]:
    """Of one trained host, in the order of :data:`COLUMNS`."""
    trainer = DiffusionTrainer(data, DiffusionSettings(), seed)
    d3 = attach(trainer, settings=SETTINGS, seed=seed)
    longer = attach(
        trainer, mode="loss", settings=SETTINGS, seed=seed, train_classifier=train_default
    )
    trainer.fit()
    longer.load_state_dict(d3.state_dict())  # the same student
    with torch.no_grad():
        teacher = d3.distiller.teacher(data.test_seen_features)[0]
    made = [of_seen(data, teacher)]
    areas = []
    for each in (d3, longer):
        evaluation = each.evaluate(draws=2, final_classifier="both")
        assert evaluation.host_scores is not None
        scores = torch.from_numpy(evaluation.host_scores[0][: len(data.test_seen_labels)])
        made.append(of_seen(data, scores[:, data.seen_classes]))
        areas.append(
            [evaluation.metrics_of(evaluation.host_scores).ausuc, evaluation.metrics.ausuc]
        )
    (host, both), (of_longer, longer_both) = areas
    return [*made, host, both - host, of_longer - host, longer_both - of_longer]


def of_seen(data: GZSLData, scores: Tensor) -> float:
    """Mean accuracy over classes, from (N, S) scores of the seen test rows."""
    predicted = data.seen_classes[scores.argmax(dim=1)]
    labels, classes = data.test_seen_labels.numpy(), data.seen_classes.numpy()
    return per_class_accuracy(labels, predicted.numpy(), classes)


def main() -> None:
    torch.set_num_threads(1)
    print("| data |", " | ".join(COLUMNS), "|")
    print("| --- " * (len(COLUMNS) + 1) + "|")
    for name in sys.argv[1:]:
        found = []
        for cut in CUTS:
            data = load_digits_gzsl(cut, split=cut) if name == "digits" else load(name)
            found.append(figures(pseudo_unseen(without_test_rows(data), seed=cut).scaled(), cut))
        shown = [cell(interval(v), signed=i > 3) for i, v in enumerate(zip(*found, strict=True))]
        print("|", " | ".join([name, *shown]), "|", flush=True)


if __name__ == "__main__":
    main()
