"""Checks of what is given to public functions; each raises one error that says what to do."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, TypeGuard, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

from d3_plugin.errors import InputError, Problems

_LARGEST = sys.float_info.max

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_tensors(function: str, **tensors: Tensor) -> None:
    """Every one is a dense tensor, and all are on one device.

    Raises:
        InputError: lists each that is not.
    """
    problems = Problems(function)
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            problems.add(f"{name} must be a tensor, got {type(tensor).__name__}")
        elif tensor.layout != torch.strided:
            problems.add(f"{name} must be dense, got {tensor.layout}; call .to_dense() on it")
    problems.raise_as(InputError)
    devices = {name: str(tensor.device) for name, tensor in tensors.items()}
    if len(set(devices.values())) > 1:
        raise InputError(f"{function}: all must be on one device, got {devices}")


def check_matrices(function: str, **tensors: Tensor) -> None:
    """Every tensor is a floating (N, K) matrix, with the same N.

    Raises:
        InputError: lists each tensor that is not.
    """
    check_tensors(function, **tensors)
    problems = Problems(function)
    for name, tensor in tensors.items():
        if tensor.ndim != 2 or tensor.shape[1] == 0:
            problems.add(f"{name} must be (N, K) with K > 0, got {tuple(tensor.shape)}")
        if tensor.dtype not in FLOATING:
            problems.add(f"{name} must be floating point, got {tensor.dtype}; call .float() on it")
    rows = {name: t.shape[0] for name, t in tensors.items() if t.ndim}
    if len(set(rows.values())) > 1:
        problems.add(f"all need the same number of rows, got {rows}")
    problems.raise_as(InputError)


def check_labels(function: str, rows: Tensor, labels: Tensor) -> None:
    """``labels`` is an integer (N,) tensor, one for each of the ``rows`` (N, K), on their device.

    Raises:
        InputError: another shape, or not integers.
    """
    check_tensors(function, rows=rows, labels=labels)
    problems = Problems(function)
    # A message is built only when it is needed: torch.compile cannot print a symbolic shape.
    if labels.shape != rows.shape[:1]:
        problems.add(f"labels must be ({len(rows)},), one per row, got {tuple(labels.shape)}")
    if not is_integer(labels):
        problems.add(f"labels must be integer class ids, got {labels.dtype}; see .long()")
    problems.raise_as(InputError)


def is_integer(tensor: Tensor) -> bool:
    """Whether it can hold class ids."""
    return not (
        tensor.is_floating_point()
        or tensor.is_complex()
        or tensor.is_quantized
        or tensor.dtype == torch.bool
    )


def check_label_range(
    function: str, labels: Tensor, num_classes: int, name: str = "labels"
) -> None:
    """``labels`` lie in 0..num_classes-1; looked at only where that does not make a GPU wait.

    Raises:
        InputError: they do not.
    """
    if labels.device.type != "cpu" or torch.compiler.is_compiling() or not len(labels):
        return
    labels = labels.long()
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise InputError(
            f"{function}: {name} must be class ids 0..{num_classes - 1}, got {low}..{high}"
        )


def check_seen_classes(function: str, seen_classes: Tensor, num_classes: int | None = None) -> None:
    """``seen_classes`` is an integer (S,) tensor of different class ids.

    Raises:
        InputError: it is not, or an id is outside 0..num_classes-1.
    """
    check_tensors(function, seen_classes=seen_classes)
    if seen_classes.ndim != 1 or not len(seen_classes) or not is_integer(seen_classes):
        raise InputError(
            f"{function}: seen_classes must be (S,) integer class ids, got {seen_classes.dtype} "
            f"{tuple(seen_classes.shape)}; for a mask use mask.nonzero()[:, 0]"
        )
    if seen_classes.is_meta:
        raise InputError(f"{function}: seen_classes is on the device meta, which holds no values")
    seen_classes = seen_classes.long()
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
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{function}: {name} is one of {', '.join(choices)}; got {value!r}")


def check_positive(function: str, **values: float) -> None:
    """Every value is a finite number above zero.

    Raises:
        InputError: lists each one that is not.
    """
    problems = Problems(function)
    for name, value in values.items():
        if not (is_number(value) and value > 0):
            problems.add(f"{name} must be above 0 and finite, got {value!r}")
    problems.raise_as(InputError)


def check_whole(function: str, *, least: int = 1, **values: int) -> None:
    """Every value is a whole number, at least ``least``.

    Raises:
        InputError: lists each one that is not.
    """
    problems = Problems(function)
    for name, value in values.items():
        ok = is_whole(value) and value >= least
        problems.check(ok, f"{name} must be a whole number, at least {least}; got {value!r}")
    problems.raise_as(InputError)


def is_whole(value: object) -> TypeGuard[int]:
    """A whole number, also NumPy's, but no bool."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def check_flags(function: str, **values: bool) -> None:
    """Every value is True or False.

    Raises:
        InputError: lists each one that is not; a text such as "no" counts as true in Python.
    """
    problems = Problems(function)
    for name, value in values.items():
        problems.check(isinstance(value, bool), f"{name} must be True or False, got {value!r}")
    problems.raise_as(InputError)


def is_number(value: object) -> bool:
    """A finite number, also NumPy's, but no bool."""
    numbers = (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not isinstance(value, numbers):
        return False
    return bool(-_LARGEST <= value <= _LARGEST)


def setting_problems(subject: str, settings: type[Any], values: Mapping[str, Any]) -> Problems:
    """What is wrong with ``values`` for the dataclass ``settings``: names and types.

    Understood are ``bool``, ``int``, ``float``, ``str``, ``Literal`` and unions of them with None;
    an int will do for a float, a bool for neither.

    Args:
        subject: starts the message.
        settings: a dataclass.
        values: by field name.
    """
    hints = get_type_hints(settings)
    known = [field.name for field in fields(settings)]
    problems = Problems(subject)
    for name, value in values.items():
        if name not in known:
            problems.add(f"no setting {name!r}; there are {', '.join(known)}")
        elif not _fits(value, hints[name]):
            problems.add(f"{name} must be {_words(hints[name])}, got {value!r}")
    return problems


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(hint))
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return hint is Any or isinstance(value, hint)


def _words(hint: Any) -> str:
    origin = get_origin(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if origin in (Union, types.UnionType):
        return " or ".join(_words(part) for part in get_args(hint))
    words = {float: "a number", int: "a whole number", bool: "True or False", type(None): "None"}
    return words.get(hint, getattr(hint, "__name__", str(hint)))
