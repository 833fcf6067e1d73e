"""Checks that the parts of a GZSL problem do not contradict each other."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor

from d3_plugin.checks import some
from d3_plugin.data.parts import PARTS, DataProblems


def check_sets(sets: Mapping[str, Tensor], num_rows: int, problems: DataProblems) -> None:
    """Check that sets of row numbers are disjoint and in range."""
    first = problems.first
    in_range = f"expected {first}..{num_rows - 1 + first}, counted from {first}"
    for part, index in sets.items():
        name = problems.called(part)
        problems.check(len(index) > 0, f"{name} is empty; expected at least one row")
        values, counts = index.unique(return_counts=True)
        outside = values[(values < 0) | (values >= num_rows)]
        problems.none_of(values[counts > 1], name, "rows", "more than once")
        problems.none_of(outside, name, "rows", f"out of range; {in_range}")
    for (one, rows), (other, others) in combinations(sets.items(), 2):
        both = some(rows[torch.isin(rows, others)].unique() + first, "rows")
        shared = f"{problems.called(one)} and {problems.called(other)} share {both}"
        problems.check(not torch.isin(rows, others).any(), shared)


def check_problem(
    parts: Mapping[str, Tensor], problems: DataProblems, rows: Mapping[str, Tensor] | None = None
) -> None:
    """Check that the parts of a problem are consistent; unreadable parts may be missing.

    Args:
        parts: by their names in :class:`~d3_plugin.data.GZSLData`.
        problems: where problems are noted.
        rows: row numbers of train, test_seen and test_unseen; default: 0, 1, ...
    """
    called, none_of = problems.called, problems.none_of
    attributes = parts.get("attributes")
    for part, kind in PARTS.items():
        features, labels = parts.get(f"{part}_features"), parts.get(f"{part}_labels")
        classes, name = parts.get(f"{kind}_classes"), called(part)
        if features is not None:
            bad = _not_finite(features)
            bad = rows[part][bad].unique() if rows else bad
            none_of(bad, name, "rows", "with NaN or Inf in features")
            shape, width = tuple(features.shape), parts.get("train_features", features).shape[1]
            expected = (len(features if labels is None else labels), width)
            what = f"features {shape}; expected {expected}: a row per label, as wide as in training"
            problems.check(shape == expected, f"{name}: {what}")
        if labels is not None and classes is not None:
            none_of(_without(labels, classes), name, "classes", f"that are not {kind} classes")
            none_of(_without(classes, labels), name, f"{kind} classes", "without rows")
        if classes is not None and attributes is not None and part != "test_seen":
            last = len(attributes) - 1
            wrong = classes[(classes < 0) | (classes > last)]
            expected_ids = f"expected {problems.first}..{last + problems.first}"
            none_of(wrong, name, "classes", f"without attributes; {expected_ids}")
    if attributes is not None:
        none_of(_not_finite(attributes), called("attributes"), "classes", "with NaN or Inf")
    if "seen_classes" in parts and "unseen_classes" in parts:
        seen, where = parts["seen_classes"], f"{called('train')} and {called('test_unseen')}"
        both = seen[torch.isin(seen, parts["unseen_classes"])].unique()
        none_of(both, where, "classes", "both seen and unseen")


def _without(values: Tensor, others: Tensor) -> Tensor:
    unique: Tensor = values.unique()
    return unique[~torch.isin(unique, others)]


def _not_finite(matrix: Tensor) -> Tensor:
    return (~torch.isfinite(matrix).all(dim=1)).nonzero()[:, 0]
