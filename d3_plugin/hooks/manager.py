"""Loads plugins one by one, so that a broken one does not affect the others."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Any

import pluggy

from d3_plugin.errors import PluginError, warn
from d3_plugin.hooks import specs
from d3_plugin.hosts.host import Host, HostFamily


def make_manager(plugins: Iterable[object] = (), *, strict: bool = False) -> pluggy.PluginManager:
    """A plugin manager with the installed plugins and ``plugins``.

    Args:
        plugins: other plugin modules or objects, which take precedence over installed ones.
        strict: raise for an installed plugin that cannot be loaded, instead of warning.

    Raises:
        PluginError: a plugin of ``plugins`` is invalid, or with ``strict`` an installed one.
    """
    manager = pluggy.PluginManager(specs.PROJECT)
    manager.add_hookspecs(specs)
    for point in sorted(entry_points(group=specs.PROJECT), key=lambda p: p.name):
        try:
            _register(manager, point.load(), point.name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a third party's import may even raise SystemExit
            message = f"{_named(point.name)} is left out: {type(error).__name__}: {error}"
            if strict:
                raise PluginError(message) from error
            warn(message)
    for plugin in plugins:
        try:
            if not manager.is_registered(plugin):
                _register(manager, plugin, None)
        except Exception as error:  # pluggy looks at every attribute of it
            raise PluginError(f"plugin {plugin!r} is invalid: {error}") from error
    return manager


def _register(manager: pluggy.PluginManager, plugin: object, name: str | None) -> None:
    """Register a plugin, and unregister it if it is invalid."""
    manager.register(plugin, name)
    try:
        manager.check_pending()
    except pluggy.PluginValidationError:
        manager.unregister(plugin)
        raise


def bind(manager: pluggy.PluginManager, trainer: Any) -> Host | None:
    """Describe a host, and unregister the plugins of other hosts.

    Of the plugins with ``d3_describe_host`` only the one that knows the trainer stays registered,
    so that the hooks of a family are called for its own hosts only.

    Args:
        manager: of a single attachment.
        trainer: the trainer object, or None for a script, which belongs to no family.

    Returns:
        The description by the first plugin that knows the trainer, or None.
    """
    name = "d3_describe_host"
    describing = [each.plugin for each in reversed(manager.hook.d3_describe_host.get_hookimpls())]
    host: Host | None = None
    for plugin in describing if trainer is not None else []:
        others = [other for other in describing if other is not plugin]
        host = manager.subset_hook_caller(name, others)(trainer=trainer)
        if host is not None:
            describing = others
            break
    for plugin in describing:
        manager.unregister(plugin)
    return host


def host_families(manager: pluggy.PluginManager) -> dict[str, HostFamily]:
    """The baselines of all plugins, in alphabetical order; plugins that fail are left out.

    Raises:
        PluginError: two plugins use the same name.

    Warns:
        D3Warning: names each plugin that is left out.
    """
    families: dict[str, HostFamily] = {}
    for implementation in manager.hook.d3_host_families.get_hookimpls():
        try:
            answer: Any = implementation.function()
            if not all(isinstance(family, HostFamily) for family in answer):
                raise TypeError(f"d3_host_families returned {answer}, not a list of HostFamily")
        except (Exception, SystemExit) as error:  # a third party's code
            message = f"{_named(implementation.plugin_name)} offers no host family"
            warn(f"{message}: {type(error).__name__}: {error}")
            continue
        for family in answer:
            if family.name in families:
                raise PluginError(f"two plugins provide a host family named {family.name!r}")
            families[family.name] = family
    return dict(sorted(families.items()))


def _named(plugin: str) -> str:
    owners = [p.dist.name for p in entry_points(group=specs.PROJECT) if p.dist and p.name == plugin]
    return f"plugin {plugin!r} of distribution {owners[0]!r}" if owners else f"plugin {plugin!r}"
