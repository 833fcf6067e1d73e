"""Checks rows and their split, then makes the parts of a GZSL problem of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from d3_plugin.checks import some
from d3_plugin.data.consistency import check_problem, check_sets
from d3_plugin.data.parts import PARTS, DataProblems
from d3_plugin.errors import DataError, warn


@dataclass(frozen=True, eq=False)
class Rows:
    """All rows of a data set and their split; what is unreadable is None, or no set.

    Attributes:
        features: (N, D) float32.
        labels: (N,) int64 class ids from 0.
        attributes: (C, A) float32.
        sets: (n,) int64 row numbers from 0, by ``train``, ``test_seen`` and ``test_unseen``.
        class_names: C names, or none.
    """

    features: Tensor | None
    labels: Tensor | None
    attributes: Tensor | None
    sets: Mapping[str, Tensor]
    class_names: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Assembled:
    """The parts of a problem by their names in GZSLData, with class ids 0..C-1, and C names."""

    parts: dict[str, Tensor]
    class_names: tuple[str, ...]


def from_rows(rows: Rows, problems: DataProblems) -> Assembled:
    """The parts of the problem of these rows; leaves out seen classes without test rows.

    Raises:
        DataError: lists every problem, with those found so far.

    Warns:
        D3Warning: names the classes left out.
    """
    _check_sizes(rows, problems)
    _check_attribute_rows(rows, problems)
    known = [len(each) for each in (rows.labels, rows.features) if each is not None]
    num_rows = known[0] if known else 2**62
    check_sets(rows.sets, num_rows, problems)

    in_range = {part: ids[(ids >= 0) & (ids < num_rows)] for part, ids in rows.sets.items()}
    sets = {part: ids for part, ids in in_range.items() if len(ids)}
    untested = _untested(rows.labels, sets)
    if rows.labels is not None and len(untested):
        sets["train"] = sets["train"][~torch.isin(rows.labels[sets["train"]], untested)]
    parts = {} if rows.attributes is None else {"attributes": rows.attributes}
    for part, index in sets.items():
        if rows.features is not None and len(rows.features) == num_rows:
            parts[f"{part}_features"] = rows.features[index]
        if rows.labels is not None:
            parts[f"{part}_labels"] = rows.labels[index]
            if part != "test_seen":
                parts[f"{PARTS[part]}_classes"] = rows.labels[index].unique()
    made = renumber(parts, problems, rows.class_names, sets)
    if len(untested):
        names = rows.class_names or range(problems.first, int(untested.max()) + 1 + problems.first)
        left_out = some([str(names[c]) for c in untested.tolist()], "seen classes")
        what = f"{left_out} without rows in {problems.called('test_seen')} are left out"
        warn(f"{problems.subject}: {what}")
    return made


def _check_sizes(rows: Rows, problems: DataProblems) -> None:
    features, labels, first = rows.features, rows.labels, problems.first
    if labels is not None:
        below = f"below {first}; ids count from {first}"
        problems.none_of(labels[labels < 0], "labels", "values", below)
    if features is not None and labels is not None and len(features) != len(labels):
        hint = "; transpose features" if features.shape[1] == len(labels) else ""
        problems.add(f"features holds {len(features)} samples, labels {len(labels)} values{hint}")


def _check_attribute_rows(rows: Rows, problems: DataProblems) -> None:
    """Check that there is a row per class: further rows may be of something else than classes."""
    if rows.attributes is None:
        return
    (count, width), given = rows.attributes.shape, len(rows.class_names)
    name, names, labels = problems.called("attributes"), problems.called("class_names"), rows.labels
    highest = int(labels.max()) if labels is not None and len(labels) else -1
    expected = given or highest + 1
    if count == expected:
        return
    if width == expected:
        problems.add(
            f"{name} holds {count} vectors of length {width} for {width} classes; transpose it"
        )
    elif given:
        problems.add(f"{names} holds {given} names for {count} classes; give one for each, or none")
    elif count > expected > 0:
        problems.add(
            f"{name} holds {count} rows for {expected} classes: the highest label is "
            f"{highest + problems.first}; keep the rows of these classes, or give {names}, one for "
            "each row, if the others are classes too"
        )


def _untested(labels: Tensor | None, sets: Mapping[str, Tensor]) -> Tensor:
    """Seen classes with training rows only; none if no class has held-out rows."""
    if labels is None or not {"train", "test_seen"} <= sets.keys():
        return torch.empty(0, dtype=torch.int64)
    seen: Tensor = labels[sets["train"]].unique()
    held_out = torch.isin(seen, labels[sets["test_seen"]])
    unseen = torch.isin(seen, labels[sets.get("test_unseen", sets["train"][:0])])
    return seen[~held_out & ~unseen] if held_out.any() else seen[:0]


def renumber(
    parts: Mapping[str, Tensor],
    problems: DataProblems,
    class_names: Sequence[str] = (),
    rows: Mapping[str, Tensor] | None = None,
) -> Assembled:
    """The parts of a problem with the class ids ``0..C-1`` in place of ids of any kind.

    Drops classes that are neither seen nor unseen; the others keep their order.

    Raises:
        DataError: lists every problem; see :func:`~d3_plugin.data.consistency.check_problem`.
    """
    check_problem(parts, problems, rows)
    problems.raise_as(DataError)
    classes = torch.cat([parts["seen_classes"], parts["unseen_classes"]]).sort().values
    new = dict(parts)
    for key in parts:
        if key.endswith("labels"):
            new[key] = torch.searchsorted(classes, parts[key])
        elif key.endswith("classes"):
            new[key] = torch.searchsorted(classes, parts[key].sort().values)
    new["attributes"] = parts["attributes"][classes]
    ids: list[int] = classes.tolist()
    names = [class_names[c] if class_names else f"class {c + problems.first}" for c in ids]
    return Assembled(new, tuple(names))


def warn_of_attributes(name: str, made: Assembled) -> None:
    """Warn if the attributes of a data set cannot distinguish its classes.

    Warns:
        D3Warning: names classes whose attributes are zero, or the same up to a positive factor,
            and columns that are constant.
    """
    attributes = made.parts["attributes"].cpu().double().numpy()
    norms = np.linalg.norm(attributes, axis=1, keepdims=True)
    unit = (attributes / np.where(norms > 0, norms, 1.0)).round(6)
    _, group, size = np.unique(unit, axis=0, return_inverse=True, return_counts=True)
    zero = norms[:, 0] == 0
    alike = [group.reshape(-1) == g for g in np.flatnonzero(size > 1)]
    faults = [f"{_names(made, zero)} with all-zero attributes"] if zero.any() else []
    faults += [
        f"{_names(made, same)} with equal attributes up to a factor"
        for same in alike
        if not zero[same].any()
    ]
    constant = torch.from_numpy(np.flatnonzero((attributes == attributes[0]).all(axis=0)))
    if len(constant):
        faults.append(f"{some(constant, 'columns')} that are constant")
    if faults:
        what = f"attributes cannot distinguish all classes: {'; '.join(faults)}"
        warn(f"data set {name!r}: {what}")


def _names(made: Assembled, chosen: NDArray[np.bool_]) -> str:
    unseen = set(made.parts["unseen_classes"].tolist())
    classes = np.flatnonzero(chosen).tolist()
    names = [f"{'unseen ' if c in unseen else ''}{made.class_names[c]!r}" for c in classes]
    return some(names, "classes")
