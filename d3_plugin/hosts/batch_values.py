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
from d3_plugin.errors import HostError

Rows = Tensor | npt.ArrayLike | None
"""Numbers as a tensor, a NumPy array or lists."""


def as_tensor(value: Any) -> Any:
    """Numbers of NumPy and in lists as a tensor; anything else as it is."""
    if isinstance(value, Tensor):
        return value
    try:
        return torch.from_numpy(np.array(value))
    except (TypeError, ValueError):
        return value


def check_no_words(labels: Any) -> None:
    """Check that labels are no class names; raises :class:`HostError`."""
    if isinstance(labels, (str, Tensor)) or not isinstance(labels, Iterable):
        return
    words = [each for each in itertools.islice(labels, 3) if isinstance(each, str)]
    if words:
        raise HostError(
            f"labels given to loss() are class names ({', '.join(map(repr, words))}, ...); pass "
            "class ids, such as [data.class_names.index(name) for name in names]"
        )


def label_column(labels: Tensor) -> Tensor:
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
