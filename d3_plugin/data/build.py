"""Builds a :class:`GZSLData` from arrays of any source."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from d3_plugin.checks import some
from d3_plugin.data.dataset import GZSLData
from d3_plugin.data.parts import OWN_NAMES, PARTS, check_problem, check_sets
from d3_plugin.errors import D3Warning, DataError, Problems


def from_rows(
    name: str,
    features: Tensor | None,
    labels: Tensor | None,
    attributes: Tensor | None,
    sets: Mapping[str, Tensor],
    problems: Problems,
    *,
    names: Mapping[str, str] = OWN_NAMES,
    class_names: Sequence[str] = (),
    first: int = 0,
) -> GZSLData:
    """A problem from all rows and the row numbers of its three sets.

    Args:
        name: of the problem.
        features: (N, D) float32; None, like the next two, if unreadable.
        labels: (N,) int64 class ids from 0.
        attributes: (C, A) float32.
        sets: (n,) int64 row numbers from 0, by ``train``, ``test_seen`` and ``test_unseen``.
        problems: those found so far.
        names: of the sets, and of ``attributes``, in messages.
        class_names: C names, or none.
        first: messages count classes and rows from here.

    Raises:
        DataError: lists every problem.
    """
    if features is not None and labels is not None and len(features) != len(labels):
        hint = "; transpose features" if features.shape[1] == len(labels) else ""
        problems.add(f"features holds {len(features)} samples, labels {len(labels)} values{hint}")
        features = None
    if labels is not None and len(low := labels[labels < 0]):
        problems.add(f"labels: {some(low + first, 'values')} below {first}; ids count from {first}")
    if attributes is not None and labels is not None and len(class_names) != len(attributes):
        # A transposed matrix with more rows than classes would load as nonsense.
        count = int(labels.max()) + 1 if len(labels) else 0
        if attributes.shape[1] == count != len(attributes):
            problems.add(
                f"{names['attributes']} holds {len(attributes)} vectors of length {count} for "
                f"{count} classes; transpose it"
            )
        if len(attributes) == len(labels) > count:
            problems.add(
                f"{names['attributes']} holds a row per sample; expected one per class: "
                "attributes[np.unique(labels, return_index=True)[1]]"
            )
    given = features if labels is None else labels
    num_rows = 2**62 if given is None else len(given)
    numbers = {}
    for part, index in sets.items():
        if len(index) == num_rows > 2 and bool(((index + first).abs() <= 1).all()):
            problems.add(f"{names[part]} looks like a mask; expected row numbers from {first}")
        else:
            numbers[part] = index
    check_sets({names[part]: index for part, index in numbers.items()}, num_rows, first, problems)
    parts = {} if attributes is None else {"attributes": attributes}
    rows = {part: ids[(ids >= 0) & (ids < num_rows)] for part, ids in numbers.items() if len(ids)}
    rare = _rare(labels, rows)
    if labels is not None and len(rare):
        rows["train"] = rows["train"][~torch.isin(labels[rows["train"]], rare)]
    for part, index in rows.items():
        if features is not None:
            parts[f"{part}_features"] = features[index]
        if labels is not None:
            parts[f"{part}_labels"] = labels[index]
            if part != "test_seen":
                parts[f"{PARTS[part]}_classes"] = labels[index].unique()
    data = from_parts(name, parts, problems, names, class_names, first, rows)
    if len(rare):
        left_out = [class_names[c] if class_names else str(c + first) for c in rare.tolist()]
        what = f"{some(left_out, 'seen classes')} without rows in {names['test_seen']} are left out"
        warnings.warn(f"{problems.subject}: {what}", D3Warning, stacklevel=3)
    return data


def _rare(labels: Tensor | None, rows: Mapping[str, Tensor]) -> Tensor:
    """Seen classes without held-out rows; none if that is true of all."""
    if labels is None or not {"train", "test_seen"} <= rows.keys():
        return torch.empty(0, dtype=torch.int64)
    seen: Tensor = labels[rows["train"]].unique()
    held_out = torch.isin(seen, labels[rows["test_seen"]])
    return seen[~held_out] if held_out.any() else seen[:0]


def from_parts(
    name: str,
    parts: Mapping[str, Tensor],
    problems: Problems,
    names: Mapping[str, str] = OWN_NAMES,
    class_names: Sequence[str] = (),
    first: int = 0,
    rows: Mapping[str, Tensor] | None = None,
) -> GZSLData:
    """A problem from its parts, with class ids of any kind.

    Drops classes that are neither seen nor unseen; the others keep their order and get the ids
    ``0..C-1``.

    Raises:
        DataError: lists every problem; see :func:`~d3_plugin.data.parts.check_problem`.
    """
    check_problem(parts, problems, names, first, rows)
    count = len(parts.get("attributes", class_names))
    if len(class_names) not in (0, count):
        problems.add(
            f"{names['class_names']} holds {len(class_names)} names for {count} classes; give one "
            "for each, or none"
        )
    problems.raise_as(DataError)
    classes = torch.cat([parts["seen_classes"], parts["unseen_classes"]]).sort().values
    new = dict(parts)
    for key in parts:
        if key.endswith("labels"):
            new[key] = torch.searchsorted(classes, parts[key])
        elif key.endswith("classes"):
            new[key] = torch.searchsorted(classes, parts[key].sort().values)
    new["attributes"] = parts["attributes"][classes]
    in_use = [class_names[c] if class_names else f"class {c + first}" for c in classes.tolist()]
    return GZSLData(name=name, class_names=tuple(in_use), **new)


def warn_of_attributes(data: GZSLData) -> GZSLData:
    """``data`` itself, with a warning if attributes cannot distinguish its classes.

    Warns:
        D3Warning: names classes whose attributes are zero, or the same up to a positive factor,
            and columns that are constant.
    """
    attributes = data.attributes.cpu().double().numpy()
    norms = np.linalg.norm(attributes, axis=1, keepdims=True)
    unit = (attributes / np.where(norms > 0, norms, 1.0)).round(6)
    _, group, size = np.unique(unit, axis=0, return_inverse=True, return_counts=True)
    zero = norms[:, 0] == 0
    alike = [group.reshape(-1) == g for g in np.flatnonzero(size > 1)]
    faults = [f"{_names(data, zero)} with all-zero attributes"] if zero.any() else []
    faults += [
        f"{_names(data, m)} with equal attributes up to a factor"
        for m in alike
        if not zero[m].any()
    ]
    constant = torch.from_numpy(np.flatnonzero((attributes == attributes[0]).all(axis=0)))
    if len(constant):
        faults.append(f"{some(constant, 'columns')} that are constant")
    if faults:
        what = f"attributes cannot distinguish all classes: {'; '.join(faults)}"
        warnings.warn(f"data set {data.name!r}: {what}", D3Warning, stacklevel=3)
    return data


def _names(data: GZSLData, chosen: NDArray[np.bool_]) -> str:
    unseen = set(data.unseen_classes.tolist())
    classes = np.flatnonzero(chosen).tolist()
    names = [f"{'unseen ' if c in unseen else ''}{data.class_names[c]!r}" for c in classes]
    return some(names, "classes")
