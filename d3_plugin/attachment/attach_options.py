"""Checks of what is given to ``attach`` beside the host."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from d3_plugin.checks import is_whole
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.errors import InputError, Problems


def checked_options(
    settings: Any,
    seed: Any,
    modules: Any,
    numbers: dict[str, Any],
    functions: dict[str, Any],
) -> tuple[nn.Module, ...]:
    """The modules as a tuple.

    Args:
        settings, seed, modules: as in :func:`d3_plugin.attach`.
        numbers, functions: options by name; None where not given.

    Raises:
        InputError: lists everything wrong.
    """
    problems = Problems("attach")
    problems.check(
        isinstance(settings, D3Settings),
        f"settings must be D3Settings(...), got {type(settings).__name__}",
    )
    problems.check(
        is_whole(seed) and seed >= 0,
        f"seed must be a whole number, at least 0; got {seed!r}",
    )
    for name, number in numbers.items():
        ok = is_whole(number) and 1 <= number <= 10**6
        problems.check(
            number is None or ok, f"{name} must be a whole number, 1..1000000; got {number!r}"
        )
    for name, function in functions.items():
        problems.check(
            function is None or callable(function), f"{name} must be a function, got {function!r}"
        )
    given = tuple(modules) if isinstance(modules, Iterable) else (modules,)
    problems.check(
        all(isinstance(module, nn.Module) for module in given),
        f"modules must be a list of torch modules, got {modules!r}",
    )
    problems.raise_as(InputError)
    return given
