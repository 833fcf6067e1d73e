"""Checks of user input, made by public entry points only; inner functions trust their callers."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import (
    Annotated,
    Any,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np
import torch
from torch import Tensor

from d3_plugin.errors import InputError, Problems

Positive = Annotated[float, "above 0"]
Share = Annotated[float, "0 to 1"]
Part = Annotated[float, "at least 0 and below 1"]
NonNegative = Annotated[float, "at least 0"]
Count = Annotated[int, "at least 1 and below 2**31"]
Effort = Annotated[int, "1 to 10000"]
Seed = Annotated[int, "0 to 2**32 - 1"]

_IN_RANGE: dict[str, Callable[[float], bool]] = {
    "above 0": lambda value: value > 0,
    "at least 0": lambda value: value >= 0,
    "at least 1 and below 2**31": lambda value: 1 <= value < 2**31,
    "0 to 1": lambda value: 0 <= value <= 1,
    "at least 0 and below 1": lambda value: 0 <= value < 1,
    "1 to 10000": lambda value: 1 <= value <= 10_000,
    "0 to 2**32 - 1": lambda value: 0 <= value < 2**32,
}
_WORDS = {float: "a finite number", int: "an int", bool: "True or False", type(None): "None"}


P = ParamSpec("P")
R = TypeVar("R")


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Decorates a function whose arguments are checked against annotations like :data:`Positive`.

    Its calls raise :class:`InputError`, which lists every argument that does not fit.
    """
    signature = inspect.signature(function)
    name = function.__qualname__.removesuffix(".__init__")

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        hints = get_type_hints(function, include_extras=True)
        given = signature.bind(*args, **kwargs).arguments
        given.pop("self", None)
        _misfits(name, given, hints).raise_as(InputError)
        return function(*args, **kwargs)

    return call


def setting_problems(subject: str, settings: type[Any], values: Mapping[str, Any]) -> Problems:
    """Problems of ``values`` as fields of the dataclass ``settings``: names, types, ranges.

    Args:
        subject: starts the message.
        settings: a dataclass.
        values: by field name.
    """
    return _misfits(subject, values, get_type_hints(settings, include_extras=True))


def _misfits(subject: str, values: Mapping[str, Any], hints: Mapping[str, Any]) -> Problems:
    problems = Problems(subject)
    for name, value in values.items():
        if name not in hints:
            problems.add(f"no setting {name!r}{did_you_mean(name, list(hints))}")
        elif not _fits(value, hints[name]):
            problems.add(f"{name} must be {_words(hints[name])}, got {value!r}")
    return problems


def did_you_mean(name: str, known: list[str]) -> str:
    """``; did you mean 'x'?``, or all known names if none is close."""
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if hint is Any:
        return True
    if origin is Annotated:
        kind, bound = get_args(hint)
        return _fits(value, kind) and _IN_RANGE[bound](value)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(hint))
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if hint in (int, float):
        numbers = (int, np.integer) if hint is int else (int, float, np.integer, np.floating)
        fits = isinstance(value, numbers) and not isinstance(value, bool)
        return fits and bool(abs(value) <= sys.float_info.max)
    if origin is collections.abc.Iterable and isinstance(value, (str, list, tuple)):
        return not isinstance(value, str) and all(_fits(v, *get_args(hint)) for v in value)
    if origin is dict and isinstance(value, dict):
        return all(_fits(v, get_args(hint)[1]) for v in value.values())
    return isinstance(value, origin or hint)


def _words(hint: Any) -> str:
    origin = get_origin(hint)
    if origin is Annotated:
        kind, bound = get_args(hint)
        return f"{_words(kind)}, {bound}"
    if origin is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if origin in (Union, types.UnionType):
        return " or ".join(_words(part) for part in get_args(hint))
    if origin is collections.abc.Callable:
        return "a function"
    if origin is collections.abc.Iterable:
        return f"a list of {_words(get_args(hint)[0])}s"
    return _WORDS.get(hint, getattr(hint, "__name__", str(hint)))


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


def check_arrays(function: str, **arrays: tuple[str, Any]) -> Problems:
    """Problems of NumPy arrays: finite numbers if named ``scores``, otherwise class ids.

    Args:
        function: starts the message.
        arrays: by name, the letters of the dimensions, such as ``"NC"``, and the array. A letter
            stands for the same positive size in all arrays.

    Raises:
        InputError: a value is not such an array.
    """
    problems = Problems(function)
    sizes: dict[str, int] = {}
    for name, (letters, array) in arrays.items():
        numbers = name.endswith("scores")
        what = f"a NumPy array ({', '.join(letters)}) of {'numbers' if numbers else 'class ids'}"
        fits = isinstance(array, np.ndarray) and array.dtype.kind in ("fiu" if numbers else "iu")
        if not fits or array.ndim != len(letters) or array.dtype == np.uint64:
            problems.add(f"{name} must be {what}; got {describe(array)}")
    problems.raise_as(InputError)
    for name, (letters, array) in arrays.items():
        expected = tuple(sizes.setdefault(d, n) for d, n in zip(letters, array.shape, strict=True))
        problems.check(array.shape == expected, f"{name} is {array.shape}, expected {expected}")
        problems.check(array.size > 0, f"{name} is empty")
        problems.check(bool(np.isfinite(array).all()), f"{name} contain NaN or Inf")
    return problems


def describe(value: Any) -> str:
    if isinstance(value, Tensor):
        sparse = "" if value.layout == torch.strided else f"{value.layout} "
        return f"a {sparse}tensor {tuple(value.shape)} of {value.dtype} on {value.device}"
    if isinstance(value, np.ndarray):
        return f"an array {value.shape} of {value.dtype}"
    return f"a {type(value).__name__}"


def some(values: Tensor | Sequence[str], noun: str) -> str:
    """The count and the first few, e.g. ``2 classes (3, 7)``."""
    first = values[:10].tolist() if isinstance(values, Tensor) else values[:10]
    shown = [f"{value:g}" if isinstance(value, float) else str(value) for value in first]
    return f"{len(values)} {noun} ({', '.join(shown)}{', ...' if len(values) > 10 else ''})"


Given = TypeVar("Given")


def takes(arguments: Callable[P, Given]) -> Callable[[Callable[[Given], R]], Callable[P, R]]:
    """Decorator of a function of one dataclass: it is called with the fields as arguments.

    They have their names, types and defaults in the dataclass alone; type checkers, ``help()`` and
    ``inspect.signature`` show them.
    """
    signature = inspect.signature(arguments)
    names = list(signature.parameters)

    def decorate(function: Callable[[Given], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in kwargs.keys() - signature.parameters.keys():
                raise TypeError(
                    f"{function.__name__}() has no argument {name!r}{did_you_mean(name, names)}"
                )
            return function(arguments(*args, **kwargs))

        answer = inspect.signature(function).return_annotation
        shown = signature.replace(return_annotation=answer)
        vars(call).update(__signature__=shown, options=arguments)
        hints = get_type_hints(arguments, include_extras=True)
        call.__annotations__ = {name: hints[name] for name in names} | {"return": answer}
        return call

    return decorate
