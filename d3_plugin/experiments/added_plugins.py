"""Plugins of ``--plugin``: each is added to +D³, in a row of its own."""

from __future__ import annotations

import re
import types
from collections.abc import Iterable
from typing import Any

from d3_plugin.errors import InputError, PluginError, Problems
from d3_plugin.experiments.families import import_object
from d3_plugin.hooks.manager import make_manager


def find_plugins(given: Iterable[object]) -> dict[str, Any]:
    """Plugins by the name of their row.

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
