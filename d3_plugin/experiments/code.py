"""The code that makes a run: of the host family, of the plugins in use, and of d3_plugin."""

from __future__ import annotations

import functools
import json
import types
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from d3_plugin.errors import D3Warning
from d3_plugin.experiments.source_digests import file_digest, module_digests, short_digest
from d3_plugin.hooks.manager import make_manager
from d3_plugin.hooks.specs import PROJECT
from d3_plugin.hosts.host import HostFamily

_ROOMS = (
    *("functional", "losses", "distributed", "data", "hosts", "distillation", "hooks"),
    *("evaluation", "attachment"),
)
_SETTINGS = Path("distillation", "settings.py")  # whose values are in the identity


@dataclass(frozen=True)
class Code:
    """What made a run.

    Attributes:
        modules: digests of source code by the module's name; one for all of d3_plugin.
        values: digests of what the family and the added plugin were made with.
        plugins: distribution and version of each installed plugin in use, by its name.
    """

    modules: dict[str, str]
    values: dict[str, str]
    plugins: dict[str, str]

    @property
    def ours(self) -> bool:
        """Whether no code of a third party takes part."""
        return all(owner.startswith("d3-plugin ") for owner in self.plugins.values())


@dataclass(frozen=True)
class _Installed:
    """An installed plugin, the host families that it offers, and its distribution."""

    name: str
    plugin: Any
    families: list[HostFamily]
    owner: str


def code_of(adapter: str, family: HostFamily | None = None, plugin: object = None) -> Code:
    """The code of a host family: of ``build``, its settings and its hooks, with what they import.

    A plugin that describes hosts counts for its own families only, any other one for all.

    Args:
        adapter: the family's name.
        family: itself, if no installed plugin provides it.
        plugin: what is added to +D³, if anything is.
    """
    mine = family or installed_families().get(adapter)
    build = getattr(mine and mine.build, "function", mine and mine.build)  # a training function
    used = [
        each
        for each in _installed()
        if not (each.families and hasattr(each.plugin, "d3_describe_host")) or mine in each.families
    ]
    objects = [*(each.plugin for each in used), plugin]
    if mine is not None:
        objects += [build, mine.settings, mine.hooks]
    modules = module_digests(objects, None if mine is None else mine.settings)
    values = {"arguments of build": _bound(build), "attributes of the plugin": _state(plugin)}
    return Code(
        {**dict(sorted(modules.items())), "d3_plugin": _own_digest()},
        {name: short_digest(text) for name, text in values.items() if text},
        {each.name: each.owner for each in used},
    )


def digest_of(codes: Sequence[Code]) -> str:
    """One digest of all these codes."""
    return short_digest(json.dumps([asdict(code) for code in codes], sort_keys=True))


def installed_families() -> dict[str, HostFamily]:
    """The host families of all installed plugins, by name."""
    return {family.name: family for plugin in _installed() for family in plugin.families}


@functools.cache
def _installed() -> list[_Installed]:
    points = entry_points(group=PROJECT)
    owners = {p.name: f"{p.dist.name} {p.dist.version}" for p in points if p.dist}
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", D3Warning)  # whoever builds the host gets them
        for name, plugin in make_manager().list_name_plugin():
            families: list[HostFamily] = []
            with suppress(Exception, SystemExit):
                families = list(getattr(plugin, "d3_host_families", list)())
            found.append(_Installed(name, plugin, families, owners.get(name, "")))
    return found


@functools.cache
def _own_digest() -> str:
    root = Path(__file__).parents[1]
    files = [root / f"{room}.py" for room in _ROOMS]
    files += [file for room in _ROOMS for file in (root / room).rglob("*.py")]
    there = {f.relative_to(root): f for f in files if f.is_file()}
    digests = {name.as_posix(): file_digest(f) for name, f in there.items() if name != _SETTINGS}
    return short_digest(json.dumps(digests, sort_keys=True))


def _state(plugin: object) -> str:
    """The attributes of an instance whose ``repr`` is the same in every process."""
    if isinstance(plugin, types.ModuleType) or not getattr(plugin, "__dict__", None):
        return ""
    written = {name: repr(value) for name, value in sorted(vars(plugin).items())}
    return repr({name: text for name, text in written.items() if " at 0x" not in text})


def _bound(build: Any) -> str:
    """Plain values that ``build`` was made with: by ``functools.partial``, or in a closure."""
    values: list[Any] = []
    while isinstance(build, functools.partial):
        values += [build.args, sorted(build.keywords.items())]
        build = build.func
    cells = getattr(build, "__closure__", None) or ()
    values += [c.cell_contents for c in cells if isinstance(c.cell_contents, (int, float, str))]
    return repr(values) if values and " at 0x" not in repr(values) else ""
