"""Checks of user input, made by public entry points only; inner functions trust their callers."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import reprlib
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from difflib import get_close_matches
from itertools import islice
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
    is_typeddict,
)

import numpy as np
import torch
from torch import Tensor

from d3_plugin.errors import InputError, Problems

Positive = Annotated[float, "above 0"]
Share = Annotated[float, "0 to 1"]
Part = Annotated[float, "at least 0 and below 1"]
NonNegative = Annotated[float, "at least 0"]
Count = Annotated[int, "at least 1"]
Effort = Annotated[int, "1 to 10000"]
Seed = Annotated[int, "0 to 2**32 - 1"]
_MEASURED = "NaN and Inf included"
Measured = Annotated[float, _MEASURED]
"""Of a training, which may diverge."""

_LARGEST = sys.float_info.max
_IN_RANGE: dict[str, Callable[[float], bool]] = {
    "above 0": lambda value: 0 < value <= _LARGEST,
    "at least 0": lambda value: 0 <= value <= _LARGEST,
    "at least 1": lambda value: 1 <= value < 2**31,
    "0 to 1": lambda value: 0 <= value <= 1,
    "at least 0 and below 1": lambda value: 0 <= value < 1,
    "1 to 10000": lambda value: 1 <= value <= 10_000,
    "0 to 2**32 - 1": lambda value: 0 <= value < 2**32,
    _MEASURED: lambda value: True,
}
_WORDS: dict[Any, str] = {
    **{float: "a finite number", int: "an int", bool: "True or False"},
    **{str: "a str", dict: "a dict", list: "a list", type(None): "None"},
}
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100

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
        given = signature.bind(*args, **kwargs).arguments
        given.pop("self", None)
        setting_problems(name, function, given).raise_as(InputError)
        return function(*args, **kwargs)

    return call


def setting_problems(subject: str, described: Any, values: Mapping[str, Any]) -> Problems:
    """Problems of some settings or arguments: names, types, ranges.

    Args:
        subject: starts the message.
        described: a dataclass with these fields, or a function with these arguments.
        values: by name; others may be missing.
    """
    problems = Problems(subject)
    hints = get_type_hints(described, include_extras=True)
    for name, value in values.items():
        if name in hints:
            problems.found += _misfits(value, hints[name], name)
        else:
            problems.add(f"no setting {name!r}{did_you_mean(name, list(hints))}")
    return problems


def first_misfits(value: Any, description: Any, place: str = "") -> str:
    """What is wrong with a value from a file, each with its place; empty if nothing is.

    Args:
        value: of JSON types; in a checkpoint also tensors.
        description: its type; a dataclass or a ``TypedDict`` for a dict with exactly these entries.
        place: of the value in the file.
    """
    whole = _entry_misfits if is_dataclass(description) else _misfits
    return "; ".join(islice(whole(value, description, place), 5))


def _entry_misfits(values: Any, description: Any, place: str) -> Iterator[str]:
    hints = get_type_hints(description, include_extras=True)
    for name in hints.keys() - values.keys():
        yield f"{place}.{name} is missing".lstrip(".")
    for name, value in values.items():
        if name in hints:
            yield from _misfits(value, hints[name], f"{place}.{name}".lstrip("."))
        else:
            yield f"{place or 'it'} has no entry {name!r}{did_you_mean(str(name), list(hints))}"


def _misfits(value: Any, hint: Any, place: str) -> Iterator[str]:
    """Where a value, or what it holds, is not of this type or range."""
    if get_origin(hint) in (Union, types.UnionType):
        hint = next((part for part in get_args(hint) if _is(value, part)), hint)
    origin, inner = get_origin(hint), get_args(hint)
    if not _is(value, hint):
        yield f"{place or 'it'} must be {_words(hint)}, got {_SHORT.repr(value)}"
    elif is_typeddict(hint):
        yield from _entry_misfits(value, hint, place)
    elif origin in (list, collections.abc.Iterable) and isinstance(value, (list, tuple)):
        for position, each in enumerate(value):
            yield from _misfits(each, inner[0], f"{place}[{position}]")
    elif origin is dict:
        for name, each in value.items():
            yield from _misfits(name, inner[0], f"a name in {place}")
            yield from _misfits(each, inner[1], f"{place}.{name}".lstrip("."))


def _is(value: Any, hint: Any) -> bool:
    """Whether a value is of this type and range; what it holds is not looked at."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if isinstance(value, np.generic):
        value = value.item()
    if origin is Annotated:
        bound = _range(inner)
        if bound is None:
            return _is(value, inner[0])
        return _is_number(value, inner[0]) and _IN_RANGE[bound](value)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in inner)
    if origin in (Union, types.UnionType):
        return any(_is(value, part) for part in inner)
    if hint in (int, float):
        return _is_number(value, hint) and abs(value) <= _LARGEST
    if origin is collections.abc.Iterable and isinstance(value, str):
        return False
    return isinstance(value, dict if is_typeddict(hint) else origin or hint)


def _is_number(value: Any, kind: type) -> bool:
    numbers = int if kind is int else (int, float)
    return isinstance(value, numbers) and not isinstance(value, bool)


def _range(inner: Sequence[Any]) -> str | None:
    """The range in ``Annotated[...]``; third parties have notes of their own there."""
    notes = (each for each in inner[1:] if isinstance(each, str) and each in _IN_RANGE)
    return next(notes, None)


def _words(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bound, kind = _range(inner), _words(inner[0])
        return "a number" if bound == _MEASURED else kind if bound is None else f"{kind}, {bound}"
    if hint in _WORDS:
        return _WORDS[hint]
    if origin is Literal:
        return "one of " + ", ".join(map(str, inner))
    if origin in (Union, types.UnionType):
        return " or ".join(map(_words, inner))
    if origin is collections.abc.Callable:
        return "a function"
    if origin is collections.abc.Iterable:
        return f"a list of {_words(inner[0]).removeprefix('an ').removeprefix('a ')}s"
    if is_typeddict(hint):
        return _WORDS[dict]
    return _WORDS.get(origin) or str(getattr(hint, "__name__", hint))


def did_you_mean(name: str, known: list[str]) -> str:
    """``; did you mean 'x'?``, or all known names if none is close."""
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"


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
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(
                    f"{function.__name__}() takes its arguments by name: {error}"
                ) from None
            return function(arguments(*args, **kwargs))

        answer = inspect.signature(function).return_annotation
        shown = signature.replace(return_annotation=answer)
        vars(call).update(__signature__=shown, options=arguments)
        hints = get_type_hints(arguments, include_extras=True)
        call.__annotations__ = {name: hints[name] for name in names} | {"return": answer}
        return call

    return decorate
