"""The parts of a GZSL problem: converted to tensors, and checked against each other."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d3_plugin.checks import describe, some
from d3_plugin.errors import Problems

#: The parts of a problem, and whether their rows are of seen or unseen classes.
PARTS = {"train": "seen", "test_seen": "seen", "test_unseen": "unseen"}
#: Their names in messages.
OWN_NAMES = {name: name for name in (*PARTS, "attributes", "class_names")}


def as_rows(name: str, value: Any, problems: Problems, shape: str = "(N, K)") -> Tensor | None:
    """``value`` as a float32 matrix; otherwise notes a problem and returns None."""
    tensor = _tensor(value)
    if tensor is None or tensor.ndim != 2 or tensor.numel() == 0:
        problems.add(f"{name} is {describe(value)}; expected a dense numeric matrix {shape}")
        return None
    return tensor.float()  # values too large for float32 become Inf, which is reported


def as_ids(name: str, value: Any, problems: Problems) -> Tensor | None:
    """``value`` as an int64 vector; otherwise notes a problem and returns None."""
    tensor = _tensor(value)
    if tensor is None or tensor.dtype == torch.bool or tensor.numel() not in (0, 1, *tensor.shape):
        problems.add(f"{name} is {describe(value)}; expected a vector of integers")
        return None
    tensor = tensor.reshape(-1)
    ids = tensor.long()  # PyTorch reads uint8 as a mask, and uint16 wraps around at 0 - 1
    if tensor.is_floating_point() and len(changed := tensor[ids.to(tensor.dtype) != tensor]):
        problems.add(f"{name}: {some(changed, 'values')} that are not integers")
        return None
    return ids


def as_row_numbers(name: str, value: Any, num_rows: int, problems: Problems) -> Tensor | None:
    """Row numbers or a mask as an int64 vector; otherwise notes a problem and returns None."""
    mask = _tensor(value)
    if mask is not None and mask.dtype == torch.bool and mask.ndim == 1:
        fits = num_rows in (0, len(mask))  # 0: the labels are unreadable
        problems.check(fits, f"{name} is a mask of {len(mask)} rows; there are {num_rows}")
        return mask.nonzero()[:, 0] if fits else None
    return as_ids(name, value, problems)


def as_parts(given: Mapping[str, Any], problems: Problems) -> dict[str, Tensor]:
    """The parts of a problem, on one device; parts that cannot be converted are left out."""
    parts = {}
    for name, value in given.items():
        convert = as_ids if name.rstrip("s").endswith(("label", "classe")) else as_rows
        if (part := convert(name, value, problems)) is not None:
            parts[name] = part
    devices = {name: str(part.device) for name, part in parts.items()}
    one = problems.check(len(set(devices.values())) < 2, f"parts on several devices: {devices}")
    return parts if one else {}


def _tensor(value: Any) -> Tensor | None:
    """A dense real tensor, detached; None if the value cannot be converted."""
    if isinstance(value, Tensor):
        tensor: Tensor = value.detach()
    else:
        try:
            array = np.asarray(value)
            array = array.astype(array.dtype.newbyteorder("="), copy=False)
            if not array.flags.writeable or min(array.strides, default=0) < 0:
                array = array.copy()
            tensor = torch.from_numpy(array)
        except Exception:  # NumPy and PyTorch raise almost anything for other objects
            return None
    odd = tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized
    return None if odd or tensor.is_complex() else tensor


def _without(values: Tensor, others: Tensor) -> Tensor:
    unique: Tensor = values.unique()
    return unique[~torch.isin(unique, others)]


def _not_finite(matrix: Tensor) -> Tensor:
    return (~torch.isfinite(matrix).all(dim=1)).nonzero()[:, 0]


def check_sets(sets: Mapping[str, Tensor], num_rows: int, first: int, problems: Problems) -> None:
    """Check that sets of row numbers are disjoint and in range; messages count from ``first``."""
    for name, index in sets.items():
        problems.check(len(index) > 0, f"{name} is empty; expected at least one row")
        values, counts = index.unique(return_counts=True)
        outside = values[(values < 0) | (values >= num_rows)]
        where = f"out of range; expected {first}..{num_rows - 1 + first}, counted from {first}"
        for wrong, what in ((values[counts > 1], "more than once"), (outside, where)):
            problems.check(not len(wrong), f"{name}: {some(wrong + first, 'rows')} {what}")
    for (one, rows), (other, others) in combinations(sets.items(), 2):
        both = rows[torch.isin(rows, others)].unique() + first
        problems.check(not len(both), f"{one} and {other} share {some(both, 'rows')}")


def check_problem(
    parts: Mapping[str, Tensor],
    problems: Problems,
    names: Mapping[str, str] = OWN_NAMES,
    first: int = 0,
    rows: Mapping[str, Tensor] | None = None,
) -> None:
    """Check that the parts of a problem are consistent; unreadable parts may be missing.

    Args:
        parts: by their names in :class:`~d3_plugin.data.GZSLData`.
        problems: where problems are noted.
        names: of train, test_seen, test_unseen and attributes in messages.
        first: messages count classes and rows from here.
        rows: row numbers of train, test_seen and test_unseen; default: 0, 1, ...
    """

    def none_of(wrong: Tensor, where: str, noun: str, what: str) -> None:
        problems.check(not len(wrong), f"{where}: {some(wrong + first, noun)} {what}")

    attributes = parts.get("attributes")
    for part, kind in PARTS.items():
        features, labels = parts.get(f"{part}_features"), parts.get(f"{part}_labels")
        classes, its = parts.get(f"{kind}_classes"), names[part]
        if features is not None:
            bad = _not_finite(features)
            bad = rows[part][bad].unique() if rows else bad
            none_of(bad, its, "rows", "with NaN or Inf in features")
            shape, width = tuple(features.shape), parts.get("train_features", features).shape[1]
            expected = (len(features if labels is None else labels), width)
            what = f"features {shape}; expected {expected}: a row per label, as wide as in training"
            problems.check(shape == expected, f"{its}: {what}")
        if labels is not None and classes is not None:
            none_of(_without(labels, classes), its, "classes", f"that are not {kind} classes")
            none_of(_without(classes, labels), its, f"{kind} classes", "without rows")
        if classes is not None and attributes is not None and part != "test_seen":
            last = len(attributes) - 1
            wrong = classes[(classes < 0) | (classes > last)]
            none_of(wrong, its, "classes", f"without attributes; expected {first}..{last + first}")
    if attributes is not None:
        none_of(_not_finite(attributes), names["attributes"], "classes", "with NaN or Inf")
    if "seen_classes" in parts and "unseen_classes" in parts:
        seen, where = parts["seen_classes"], f"{names['train']} and {names['test_unseen']}"
        both = seen[torch.isin(seen, parts["unseen_classes"])].unique()
        none_of(both, where, "classes", "both seen and unseen")
