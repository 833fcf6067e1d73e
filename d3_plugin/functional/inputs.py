"""Checks of the tensors that are given to formulas and losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from d3_plugin.checks import describe
from d3_plugin.errors import InputError


def check_matrices(function: str, *tensors: Tensor) -> None:
    """Check that every tensor is a floating (N, K) matrix with K > 0, all with the same N.

    Raises:
        InputError: they are not; lists every dtype and shape.
    """
    rows = {t.shape[0] if _is_matrix(t) else None for t in tensors}
    if None in rows or len(rows) > 1:
        got = ", ".join(map(describe, tensors))
        raise InputError(f"{function} takes dense floating (N, K) tensors of equal N, got {got}")


def _is_matrix(value: Any) -> bool:
    dense = isinstance(value, Tensor) and value.is_floating_point() and not value.is_sparse
    return dense and value.ndim == 2 and value.shape[1] > 0


def check_labels(function: str, labels: Tensor, rows: int, num_classes: int | None = None) -> None:
    """Check that ``labels`` is an integer (N,) tensor with one label per row.

    Raises:
        InputError: wrong shape or dtype; on the CPU also values outside 0..num_classes-1.
    """
    if not is_integer(labels) or tuple(labels.shape) != (rows,):
        raise InputError(f"{function} takes integer labels ({rows},), got {describe(labels)}")
    # Reading values would make a GPU wait, and break the graph while compiling.
    if num_classes is None or labels.device.type != "cpu" or torch.compiler.is_compiling():
        return
    low, high = map(int, labels.aminmax()) if rows else (0, 0)
    if low < 0 or high >= num_classes:
        raise InputError(f"{function} takes labels in 0..{num_classes - 1}, got {low}..{high}")


def check_seen_classes(function: str, seen_classes: Tensor, num_classes: int | None = None) -> None:
    """Check that ``seen_classes`` is an integer (S,) tensor of distinct class ids.

    Raises:
        InputError: it is not, or an id is outside 0..num_classes-1.
    """
    fits = is_integer(seen_classes) and not seen_classes.is_meta  # whose values are not known
    if not fits or seen_classes.ndim != 1 or not len(seen_classes):
        raise InputError(
            f"{function} takes seen_classes (S,) as integer class ids (mask.nonzero()[:, 0] of a "
            f"mask), got {describe(seen_classes)}"
        )
    ids = seen_classes.tolist()
    if len(set(ids)) < len(ids) or min(ids) < 0 or (num_classes and max(ids) >= num_classes):
        last = "C-1" if num_classes is None else num_classes - 1
        raise InputError(f"{function} takes distinct seen_classes in 0..{last}, got {ids}")


def is_integer(tensor: object) -> bool:
    """Whether this is a tensor that can hold class ids; uint8 can, bool cannot."""
    return isinstance(tensor, Tensor) and tensor.dtype in _INTEGERS


_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
