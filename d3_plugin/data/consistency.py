"""Checks that the parts of a GZSL problem do not contradict each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations

import torch
from torch import Tensor

from d3_plugin.checks import some
from d3_plugin.data.parts import PARTS
from d3_plugin.errors import Problems


@dataclass(frozen=True)
class Wording:
    """How messages name the parts of a problem: as their source does.

    Attributes:
        names: of sets, attributes and class names, where they differ from those of GZSLData.
        first: classes and rows are counted from here.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    first: int = 0

    def __getitem__(self, part: str) -> str:
        return self.names.get(part, part)


#: As the fields of GZSLData, counted from 0.
AS_IN_GZSL_DATA = Wording()


def check_sets(
    sets: Mapping[str, Tensor], num_rows: int, problems: Problems, wording: Wording
) -> None:
    """Check that sets of row numbers are disjoint and in range."""
    first = wording.first
    for part, index in sets.items():
        name = wording[part]
        problems.check(len(index) > 0, f"{name} is empty; expected at least one row")
        values, counts = index.unique(return_counts=True)
        outside = values[(values < 0) | (values >= num_rows)]
        where = f"out of range; expected {first}..{num_rows - 1 + first}, counted from {first}"
        for wrong, what in ((values[counts > 1], "more than once"), (outside, where)):
            problems.check(not len(wrong), f"{name}: {some(wrong + first, 'rows')} {what}")
    for (one, rows), (other, others) in combinations(sets.items(), 2):
        both = rows[torch.isin(rows, others)].unique() + first
        shared = f"{wording[one]} and {wording[other]} share {some(both, 'rows')}"
        problems.check(not len(both), shared)


def check_problem(
    parts: Mapping[str, Tensor],
    problems: Problems,
    wording: Wording = AS_IN_GZSL_DATA,
    rows: Mapping[str, Tensor] | None = None,
) -> None:
    """Check that the parts of a problem are consistent; unreadable parts may be missing.

    Args:
        parts: by their names in :class:`~d3_plugin.data.GZSLData`.
        problems: where problems are noted.
        wording: of the messages.
        rows: row numbers of train, test_seen and test_unseen; default: 0, 1, ...
    """

    def none_of(wrong: Tensor, where: str, noun: str, what: str) -> None:
        problems.check(not len(wrong), f"{where}: {some(wrong + wording.first, noun)} {what}")

    attributes = parts.get("attributes")
    for part, kind in PARTS.items():
        features, labels = parts.get(f"{part}_features"), parts.get(f"{part}_labels")
        classes, name = parts.get(f"{kind}_classes"), wording[part]
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
            expected_ids = f"expected {wording.first}..{last + wording.first}"
            none_of(wrong, name, "classes", f"without attributes; {expected_ids}")
    if attributes is not None:
        none_of(_not_finite(attributes), wording["attributes"], "classes", "with NaN or Inf")
    if "seen_classes" in parts and "unseen_classes" in parts:
        seen, where = parts["seen_classes"], f"{wording['train']} and {wording['test_unseen']}"
        both = seen[torch.isin(seen, parts["unseen_classes"])].unique()
        none_of(both, where, "classes", "both seen and unseen")


def _without(values: Tensor, others: Tensor) -> Tensor:
    unique: Tensor = values.unique()
    return unique[~torch.isin(unique, others)]


def _not_finite(matrix: Tensor) -> Tensor:
    return (~torch.isfinite(matrix).all(dim=1)).nonzero()[:, 0]
