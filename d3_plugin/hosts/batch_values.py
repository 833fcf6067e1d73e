"""What a loop gives to ``loss()`` as tensors: from NumPy arrays, lists, and labels in a column."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from d3_plugin.checks import describe
from d3_plugin.data import GZSLData
from d3_plugin.errors import HostError
from d3_plugin.functional.inputs import is_integer

Rows = Tensor | npt.ArrayLike | None
"""Numbers as a tensor, a NumPy array or lists."""


def batch_tensors(
    data: GZSLData, features: Rows, labels: Rows, attributes: Rows
) -> tuple[Tensor, Tensor]:
    """Features (B, D), and integer labels (B,) or attributes (B, A), on the data's device.

    Raises:
        HostError: wrong shapes or dtypes, labels as well as attributes, or none of them.
    """
    parts = [_as_tensor(p) for p in (features, labels, attributes) if p is not None]
    dense = all(isinstance(p, Tensor) and p.layout == torch.strided for p in parts)
    by_label = labels is not None
    if by_label and attributes is None:
        _check_no_words(labels)
    if features is None or len(parts) != 2 or not dense:
        got = ", ".join(describe(each) for each in (features, labels, attributes))
        raise HostError(
            "loss() takes nothing, or features and labels= or attributes=, dense: tensors, arrays "
            f"or lists of numbers; got {got}"
        )
    rows, given = parts[0], _label_column(parts[1]) if by_label else parts[1]
    dim, shape = data.feature_dim, (*rows.shape[:1], *data.attributes.shape[1:])
    shape = shape[:1] if by_label else shape
    right_kind = is_integer(given) if by_label else given.is_floating_point()
    right_rows = rows.is_floating_point() and rows.shape[1:] == (dim,)
    if not right_rows or given.shape != shape or not right_kind:
        raise HostError(
            f"loss() takes floating features (B, {dim}), integer labels or floating attributes "
            f"{shape}; got {describe(rows)} and {describe(given)}"
        )
    device = data.train_features.device
    return rows.detach().to(device), given.detach().to(device)


def _as_tensor(value: Any) -> Any:
    """Numbers of NumPy and in lists as a tensor; anything else as it is."""
    if isinstance(value, Tensor):
        return value
    try:
        return torch.from_numpy(np.array(value))
    except (TypeError, ValueError):
        return value


def _check_no_words(labels: Any) -> None:
    """Check that labels are no class names; raises :class:`HostError`."""
    if isinstance(labels, (str, Tensor)) or not isinstance(labels, Iterable):
        return
    words = [each for each in itertools.islice(labels, 3) if isinstance(each, str)]
    if words:
        raise HostError(
            f"labels given to loss() are class names ({', '.join(map(repr, words))}, ...); pass "
            "class ids, such as [data.class_names.index(name) for name in names]"
        )


def _label_column(labels: Tensor) -> Tensor:
    """Labels (B,) of integers, from (B, 1) and from floating numbers that are whole."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        raise HostError(
            f"labels given to loss() are {describe(labels)}, as one-hot rows are; pass one number "
            "per row, (B,): class ids as in data=, or with attach(labels_are='mapped') positions "
            "among the sorted seen classes"
        )
    if labels.is_floating_point():
        numbers = labels.float()  # of float8 PyTorch rounds nothing
        return numbers.long() if bool((numbers == numbers.round()).all()) else labels
    return labels
