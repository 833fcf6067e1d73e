"""Finds host families: by name, by import path, or given as an object."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from d3_plugin.checks import did_you_mean, setting_problems
from d3_plugin.errors import InputError
from d3_plugin.experiments.training_function import FORM, family_of, is_training_function
from d3_plugin.hooks.manager import host_families, make_manager
from d3_plugin.hosts.host import HostFamily


def find_family(given: str | HostFamily | Callable[..., object]) -> HostFamily:
    """A host family by its name, by its import path, or as it is.

    Args:
        given: the name under which a plugin provides it; ``package.module:attribute``, also of a
            module in the current folder; the family itself; or a training function.

    Returns:
        The family; with ``hooks`` if no installed plugin provides it.

    Raises:
        InputError: there is none; says which are known. Or an installed one has its name.
        PluginError: its module is not a valid plugin.
    """
    installed = host_families(make_manager())
    if isinstance(given, str) and ":" not in given:
        if given not in installed:
            hint = did_you_mean(given, list(installed))
            raise InputError(f"no adapter named {given!r}{hint}; or give MODULE:ATTRIBUTE")
        return installed[given]
    found = _imported(given) if isinstance(given, str) else given
    family = found if isinstance(found, HostFamily) else family_of(found)
    if installed.get(family.name) == family:
        return installed[family.name]
    if family.name in installed:
        raise InputError(f"an installed adapter is named {family.name!r} too; choose another name")
    hooks = family.hooks or sys.modules.get(getattr(family.build, "__module__", ""), family)
    make_manager([hooks])  # a mistake in the hooks shows now
    return replace(family, hooks=hooks)


def _imported(path: str) -> HostFamily | Callable[..., object]:
    module, found = import_object(path)
    if inspect.isfunction(found):
        return found
    if not isinstance(found, HostFamily):
        there = [
            name
            for name, value in vars(module).items()
            if isinstance(value, HostFamily) or is_training_function(value)
        ]
        hint = f"; there are {', '.join(there)}" if there else f"; it needs one, or {FORM}"
        raise InputError(f"{path!r} is a {type(found).__name__}, not a HostFamily{hint}")
    return replace(found, hooks=found.hooks or module)


def import_object(path: str) -> tuple[types.ModuleType, Any]:
    """Module and object of ``package.module:object``, also of a module in the current folder.

    Without an object it is the module.

    Raises:
        InputError: the module cannot be imported, or has no such object.
    """
    name, _, attribute = path.partition(":")
    try:
        if (here := os.getcwd()) not in sys.path:  # as uvicorn and celery do
            sys.path.insert(0, here)
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a third party's code
        why = f"{type(error).__name__}: {error}"
        raise InputError(f"{path!r}: {name!r} cannot be imported ({why})") from error
    if not attribute:
        return module, module
    if not hasattr(module, attribute):
        there = [name for name in vars(module) if not name.startswith("_")]
        raise InputError(f"{path!r}: {name} has no {attribute!r}{did_you_mean(attribute, there)}")
    return module, getattr(module, attribute)


def host_settings(family: HostFamily, changes: dict[str, Any]) -> Any:
    """The family's settings with ``changes``.

    Raises:
        InputError: lists settings that do not exist and values that do not fit.
    """
    subject = f"settings of {family.name}"
    setting_problems(subject, family.settings, changes).raise_as(InputError)
    try:
        return family.settings(**changes)
    except (TypeError, ValueError) as error:  # a field without a default; the family's own checks
        raise InputError(f"{subject}: {error}") from error
