"""Checks values against the annotations of a settings dataclass."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from d3_plugin.errors import Problems


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
