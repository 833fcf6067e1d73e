"""Finds the host families and the plugins of a command: by name, import path, or as objects."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
import types
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from d3_plugin.checks import did_you_mean, setting_problems
from d3_plugin.errors import InputError, PluginError, Problems
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


def find_plugins(given: Iterable[object]) -> dict[str, Any]:
    """Plugins of ``--plugin``, each of which is added to +D³, by the name of their row.

    Args:
        given: plugin objects or modules, or import paths ``package.module:object`` or
            ``package.module``, also of modules in the current folder.

    Raises:
        InputError: lists every one that cannot be imported, is no plugin, is part of every row
            already, describes hosts, or has the name of another.
    """
    problems = Problems("plugins")
    found: dict[str, Any] = {}
    for each in given:
        try:
            name, plugin = _named(each)
            _check(plugin)
        except (InputError, PluginError) as error:
            problems.add(f"{each!r}: {error}")
            continue
        problems.check(bool(re.fullmatch(r"\w+", name)), f"{each!r}: {name!r} is no name of a row")
        problems.check(name not in found, f"{each!r}: another plugin is named {name!r} too")
        found[name] = plugin
    problems.raise_as(InputError)
    return found


def _named(given: object) -> tuple[str, Any]:
    """Name and plugin: an object is named as in its import path, otherwise by its class."""
    if not isinstance(given, str):
        named = given if isinstance(given, types.ModuleType) else type(given)
        return named.__name__.rpartition(".")[2], given
    path, _, attribute = given.partition(":")
    return attribute or path.rpartition(".")[2], import_object(given)[1]


def _check(plugin: object) -> None:
    if isinstance(plugin, (type, types.FunctionType)):
        raise InputError(
            f"it is a {type(plugin).__name__.replace('type', 'class')}; give an object or a module "
            "with functions marked d3_plugin.hookimpl"
        )
    if make_manager().is_registered(plugin):
        raise InputError("it is installed, and so part of every row already")
    hooks = [call.name for call in make_manager([plugin]).get_hookcallers(plugin) or ()]
    if not hooks:
        raise InputError("it has no function marked d3_plugin.hookimpl, such as d3_extra_terms")
    if "d3_describe_host" in hooks:
        raise InputError("it describes a host: a HostFamily is given as --adapter")


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
