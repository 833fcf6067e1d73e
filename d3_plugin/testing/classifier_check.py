"""Check of the final classifier and of the space it sees."""

from __future__ import annotations

import torch
from torch import Tensor

from d3_plugin.errors import AdapterError, Problems
from d3_plugin.hosts.isolation import eval_mode
from d3_plugin.testing.case import (
    AdapterCase,
    TrainedHost,
    differences,
    listed,
    modules_of,
    rows_of,
    seeded,
    state_of,
)

PER_CLASS = 10


def check_classifier(case: AdapterCase) -> None:
    """Transform and classifier agree: (N, D) -> (N, D') -> (N, C), inputs and host as they were."""
    problems = Problems("check_classifier")
    ready = case.trained()
    data = ready.host.data
    classes = data.unseen_classes.repeat_interleave(PER_CLASS)
    synthetic = rows_of(ready, classes, False).to(data.train_features)
    modules = modules_of(ready.trainer, ready.host)
    before = state_of(modules)
    with seeded(0), eval_mode(ready.host.modules), torch.no_grad():  # as evaluate() does
        real = _transformed(ready, data.train_features, "real", problems)
        made = _transformed(ready, synthetic, "synthetic", problems)
        widths = sorted({made.shape[1] for made in (real, made) if made is not None})
        if len(widths) > 1:
            problems.add(
                f"d3_transform_features makes rows {widths[0]} and {widths[1]} wide of real and "
                "synthetic ones, expected one width; it must not depend on the number of rows"
            )
        if real is not None and made is not None and len(widths) == 1:
            labels = torch.cat([data.train_labels, classes])
            _check_scores(ready, torch.cat([real, made]), labels, problems)
    changed = differences(before, state_of(modules))
    problems.check(
        not changed,
        "d3_transform_features or d3_train_classifier changes the host, expected everything as it "
        f"was: {listed(changed)}; train a classifier of its own",
    )
    problems.raise_as(AdapterError)


def _transformed(ready: TrainedHost, rows: Tensor, kind: str, problems: Problems) -> Tensor | None:
    given = rows.clone()
    made = ready.manager.hook.d3_transform_features(host=ready.host, features=given)
    problems.check(
        torch.equal(given, rows),
        f"d3_transform_features changes the {kind} rows that it is given, expected them as they "
        "were; return a new tensor",
    )
    if isinstance(made, Tensor) and made.ndim == 2 and len(made) == len(rows):
        return made
    got = f"shape {tuple(made.shape)}" if isinstance(made, Tensor) else str(type(made))
    problems.add(
        f"d3_transform_features makes {got} of {kind} rows {tuple(rows.shape)}, expected a tensor "
        f"({len(rows)}, D'); return one row per row"
    )
    return None


def _check_scores(ready: TrainedHost, features: Tensor, labels: Tensor, problems: Problems) -> None:
    host = ready.host
    given, given_labels = features.clone(), labels.clone()
    with torch.enable_grad():  # evaluation as a whole runs without gradient, training must not
        scorer = ready.manager.hook.d3_train_classifier(
            host=host, features=given, labels=given_labels, num_classes=host.data.num_classes
        )
    problems.check(
        torch.equal(given, features) and torch.equal(given_labels, labels),
        "d3_train_classifier changes the features or labels that it is given, expected them as "
        "they were; work on a copy",
    )
    if not callable(scorer):
        problems.add(
            f"d3_train_classifier returns {type(scorer)}, expected a function of (M, D') features"
        )
        return
    rows = features[::PER_CLASS].clone()
    scores = scorer(rows)
    problems.check(
        torch.equal(rows, features[::PER_CLASS]),
        "the classifier of d3_train_classifier changes the rows that it scores, expected them as "
        "they were; work on a copy",
    )
    expected = (len(rows), host.data.num_classes)
    if not isinstance(scores, Tensor) or scores.shape != expected:
        got = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else str(type(scores))
        problems.add(
            f"the classifier of d3_train_classifier returns {got}, expected a tensor {expected}: "
            "a score for every class, seen and unseen; do not map labels to positions"
        )
        return
    problems.check(
        bool(torch.isfinite(scores).all()),
        "the classifier of d3_train_classifier scores NaN or Inf, expected finite logits or "
        "log-probabilities; a probability of 0 has no logarithm",
    )
