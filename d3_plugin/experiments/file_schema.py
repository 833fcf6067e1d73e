"""Checks the content of a stored file against a description of its entries and their types."""

from __future__ import annotations

import reprlib
import types
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from itertools import islice
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

from d3_plugin.checks import did_you_mean

_WORDS: dict[type, str] = {
    **{type(None): "null", str: "a text", dict: "an object", list: "a list"},
    **{bool: "true or false", int: "an int", float: "a number"},
}


def first_misfits(value: Any, description: Any) -> str:
    """What is wrong with a value from a file, each with its place; empty if nothing is.

    Args:
        value: of JSON types; in a checkpoint also tensors.
        description: a ``TypedDict`` or a dataclass for an object with exactly these entries (those
            with a default may be missing), ``list[X]``, ``dict[str, X]``, ``X | None``, ``float``
            (NaN and Inf are allowed), ``int``, ``str``, ``bool``, any other class, or ``Any``.
    """
    return "; ".join(islice(_misfits(value, description, ""), 5))


def _misfits(value: Any, hint: Any, place: str) -> Iterator[str]:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return
    if origin in (Union, types.UnionType):
        found = [list(_misfits(value, part, place)) for part in inner]
        if all(found):
            yield found[0][0]
    elif is_typeddict(hint) or is_dataclass(hint):
        yield from _entry_misfits(value, hint, place)
    elif not _is(value, origin or hint):
        yield f"{place or 'it'} must be {_words(origin or hint)}, got {reprlib.repr(value)}"
    elif origin is list:
        for position, each in enumerate(value):
            yield from _misfits(each, inner[0], f"{place}[{position}]")
    elif origin is dict:
        for key, each in value.items():
            yield from _misfits(key, inner[0], f"a name in {place}")
            yield from _misfits(each, inner[1], f"{place}.{key}".lstrip("."))


def _entry_misfits(value: Any, hint: Any, place: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{place or 'it'} must be an object, got {reprlib.repr(value)}"
        return
    hints = get_type_hints(hint)
    for name in _required(hint) - value.keys():
        yield f"{place}.{name} is missing".lstrip(".")
    for name, each in value.items():
        if name in hints:
            yield from _misfits(each, hints[name], f"{place}.{name}".lstrip("."))
        else:
            yield f"{place or 'it'} has no entry {name!r}{did_you_mean(str(name), list(hints))}"


def _required(hint: Any) -> set[str]:
    if not is_dataclass(hint):
        return set(hint.__required_keys__)
    without = (MISSING, MISSING)
    return {f.name for f in fields(hint) if (f.default, f.default_factory) == without}


def _is(value: Any, kind: type) -> bool:
    if kind in (int, float):
        numbers = int if kind is int else (int, float)
        return isinstance(value, numbers) and not isinstance(value, bool)
    return isinstance(value, kind)


def _words(kind: type) -> str:
    return _WORDS.get(kind, kind.__name__)
