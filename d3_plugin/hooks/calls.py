"""Calls of the hooks that every plugin answers; each plugin gets copies of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import pluggy
import torch
from torch import Tensor

from d3_plugin.checks import describe
from d3_plugin.errors import PluginError, Problems
from d3_plugin.hosts.host import Host, StepBatch

_TAKEN = ("step", "total", "gradient_share", "teacher_real", "teacher_synthetic")


def extra_terms(
    hooks: pluggy.HookRelay, host: Host, batch: StepBatch, own: Collection[str]
) -> dict[str, Tensor]:
    """The further loss terms of all plugins, by name.

    Args:
        hooks, host, batch: as for the hook ``d3_extra_terms``.
        own: names of the terms of D³ itself.

    Raises:
        PluginError: a plugin failed, or a term is no 0-dim floating tensor or its name is taken;
            names the plugin.
    """
    terms: dict[str, Tensor] = {}
    for plugin in reversed(hooks.d3_extra_terms.get_hookimpls()):  # as pluggy does
        unnamed = plugin.plugin_name.isdigit()  # pluggy takes the id of the object then
        name = type(plugin.plugin).__name__ if unnamed else plugin.plugin_name
        name = f"d3_extra_terms of plugin {name}"
        try:
            found = _call(plugin, host=host, batch=_copy(batch))
        except Exception as error:  # a third party's code
            raise PluginError(f"{name} failed: {error!r}") from error
        if found is not None:
            _check_terms(name, found, {*_TAKEN, *own, *terms}, batch.features.device)
            terms |= found
    return terms


def _copy(batch: StepBatch) -> StepBatch:
    """With tensors of its own."""
    parts: dict[str, Any] = {n: v.clone() for n, v in vars(batch).items() if isinstance(v, Tensor)}
    return replace(batch, **parts)


def _check_terms(function: str, terms: Any, taken: Collection[str], device: torch.device) -> None:
    problems = Problems(function)
    if not isinstance(terms, dict):
        problems.add(f"must return a dict of terms by name, got {describe(terms)}")
        terms = {}
    for name, term in terms.items():
        problems.check(isinstance(name, str), f"names of terms must be strings, got {name!r}")
        problems.check(name not in taken, f"there is a term or value named {name!r} already")
        number = isinstance(term, Tensor) and term.is_floating_point() and term.shape == ()
        problems.check(
            number and term.device == device,
            f"{name!r} must be a 0-dim floating tensor on {device}, got {describe(term)}",
        )
    problems.raise_as(PluginError)


def after_step(
    hooks: pluggy.HookRelay, host: Host, step: int, values: Mapping[str, Tensor]
) -> None:
    """Tell every plugin that a step was made."""
    for plugin in hooks.d3_after_step.get_hookimpls():
        copies = {name: value.clone() for name, value in values.items()}
        _call(plugin, host=host, step=step, values=copies)


def _call(plugin: pluggy.HookImpl, **arguments: Any) -> Any:
    """The answer of one plugin, which need not take every argument."""
    return plugin.function(*(arguments[name] for name in plugin.argnames))
