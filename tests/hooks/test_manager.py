"""Plugins come and go without taking each other down."""

from __future__ import annotations

import types
from typing import Any

import pytest

from d3_plugin import D3Warning, PluginError, hookimpl
from d3_plugin.hooks import manager
from d3_plugin.hooks.manager import make_manager


class FakePoint:
    """An entry point of an installed distribution."""

    def __init__(self, name: str, plugin: Any) -> None:
        self.name, self.plugin = name, plugin
        self.dist = types.SimpleNamespace(name=f"dist-of-{name}")

    def load(self) -> Any:
        if isinstance(self.plugin, Exception):
            raise self.plugin
        return self.plugin


class WrongArgument:
    @hookimpl
    def d3_synthesize_features(self, host: Any, colour: Any) -> None:
        """No hook has an argument ``colour``."""


class WrongName:
    @hookimpl
    def d3_no_such_hook(self) -> None:
        """No hook has this name."""


class TouchedProperty:
    """Registering must not run a plugin's properties."""

    @property
    def expensive(self) -> None:
        raise RuntimeError("touched")


def install(monkeypatch: pytest.MonkeyPatch, **plugins: Any) -> None:
    points = [FakePoint(name, plugin) for name, plugin in plugins.items()]
    monkeypatch.setattr(manager, "entry_points", lambda group: points)


@pytest.mark.parametrize(
    "broken",
    [ImportError("no module torchvision"), RuntimeError("boom"), WrongArgument(), WrongName()],
)
def test_broken_plugin_warns_with_its_distribution_and_the_rest_works(
    monkeypatch: pytest.MonkeyPatch, broken: Any
) -> None:
    good = types.SimpleNamespace()
    install(monkeypatch, bad=broken, good=good)
    with pytest.warns(D3Warning, match="'bad' of distribution 'dist-of-bad'"):
        made = make_manager()
    assert made.get_plugin("good") is good
    assert not made.is_registered(broken)


def test_strict_turns_the_warning_into_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, bad=ImportError("no module torchvision"))
    with pytest.raises(PluginError, match=r"dist-of-bad.*no module torchvision"):
        make_manager(strict=True)


def test_given_plugin_that_is_invalid_is_an_error() -> None:
    with pytest.raises(PluginError, match="colour"):
        make_manager([WrongArgument()])


def test_properties_are_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    make_manager([TouchedProperty()])


def test_one_manager_per_attachment() -> None:
    one, other = make_manager(), make_manager()
    plugin = types.SimpleNamespace()
    one.register(plugin)
    assert not other.is_registered(plugin)


def test_built_in_adapter_is_found_by_its_entry_point() -> None:
    assert make_manager().has_plugin("fclswgan")
