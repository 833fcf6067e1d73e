"""Checks of what is given to public functions; each raises one error that says what to do."""

from __future__ import annotations

import torch
from torch import Tensor

from d3_plugin.errors import InputError, Problems


def check_matrices(function: str, **tensors: Tensor) -> None:
    """Every tensor is a floating (N, K) matrix, with the same N.

    Raises:
        InputError: lists each tensor that is not.
    """
    problems = Problems(function)
    for name, tensor in tensors.items():
        if tensor.ndim != 2 or tensor.shape[1] == 0:
            problems.add(f"{name} must be (N, K) with K > 0, got {tuple(tensor.shape)}")
        if not tensor.is_floating_point():
            problems.add(f"{name} must be floating point, got {tensor.dtype}; call .float() on it")
    rows = {name: t.shape[0] for name, t in tensors.items() if t.ndim}
    if len(set(rows.values())) > 1:
        problems.add(f"all need the same number of rows, got {rows}")
    problems.raise_as(InputError)


def check_labels(function: str, rows: int, labels: Tensor) -> None:
    """``labels`` is an integer (N,) tensor with N = ``rows``.

    Raises:
        InputError: another shape, or not integers.
    """
    problems = Problems(function)
    # A message is built only when it is needed: torch.compile cannot print a symbolic shape.
    if labels.shape != (rows,):
        problems.add(f"labels must be ({rows},), one per row, got {tuple(labels.shape)}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        problems.add(f"labels must be integer class ids, got {labels.dtype}")
    problems.raise_as(InputError)


def check_label_range(function: str, labels: Tensor, num_classes: int) -> None:
    """``labels`` lie in 0..num_classes-1; looked at only where that does not make a GPU wait.

    Raises:
        InputError: they do not.
    """
    if labels.device.type != "cpu" or torch.compiler.is_compiling() or not len(labels):
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise InputError(
            f"{function}: labels must be class ids 0..{num_classes - 1}, got {low}..{high}"
        )


def check_seen_classes(function: str, seen_classes: Tensor, num_classes: int | None = None) -> None:
    """``seen_classes`` is an integer (S,) tensor of different class ids.

    Raises:
        InputError: it is not, or an id is outside 0..num_classes-1.
    """
    integers = not (seen_classes.is_floating_point() or seen_classes.dtype == torch.bool)
    if seen_classes.ndim != 1 or not len(seen_classes) or not integers:
        raise InputError(
            f"{function}: seen_classes must be (S,) integer class ids, got {seen_classes.dtype} "
            f"{tuple(seen_classes.shape)}; for a mask use mask.nonzero()[:, 0]"
        )
    problems = Problems(function)
    problems.check(
        len(seen_classes.unique()) == len(seen_classes), "seen_classes names a class twice"
    )
    low, high = int(seen_classes.min()), int(seen_classes.max())
    problems.check(
        low >= 0 and (num_classes is None or high < num_classes),
        f"seen_classes must lie in 0..{'' if num_classes is None else num_classes - 1}, "
        f"got {low}..{high}",
    )
    problems.raise_as(InputError)


def check_choice(function: str, name: str, value: str, choices: tuple[str, ...]) -> None:
    """``value`` is one of ``choices``.

    Raises:
        InputError: it is not; names the choices.
    """
    if value not in choices:
        raise InputError(f"{function}: {name} is one of {', '.join(choices)}; got {value!r}")


def check_positive(function: str, **values: float) -> None:
    """Every value is a finite number above zero.

    Raises:
        InputError: lists each one that is not.
    """
    problems = Problems(function)
    for name, value in values.items():
        if not 0 < value < float("inf"):
            problems.add(f"{name} must be above 0 and finite, got {value}")
    problems.raise_as(InputError)
