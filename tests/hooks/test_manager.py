"""Plugins come and go without taking each other down."""

from __future__ import annotations

import dataclasses
import signal
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from d3_plugin import D3Warning, HostFamily, PluginError, hookimpl
from d3_plugin.hooks import manager
from d3_plugin.hooks.manager import host_families, make_manager


class FakePoint:
    """An entry point of an installed distribution."""

    def __init__(self, name: str, plugin: Any) -> None:
        self.name, self.plugin = name, plugin
        self.dist = types.SimpleNamespace(name=f"dist-of-{name}")

    def load(self) -> Any:
        if isinstance(self.plugin, BaseException):
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


class Interrupting(BaseException):
    """Derives from no Exception."""


@pytest.mark.parametrize("raised", [SystemExit(3), Interrupting("now")])
def test_an_import_that_would_end_the_command_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException
) -> None:
    install(monkeypatch, bad=raised, good=types.SimpleNamespace())
    with pytest.warns(D3Warning, match="'bad' of distribution 'dist-of-bad'"):
        assert make_manager().get_plugin("good") is not None


def test_ctrl_c_while_plugins_work_ends_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    install(monkeypatch, slow=families(interrupted))
    with pytest.raises(KeyboardInterrupt):
        host_families(make_manager())
    monkeypatch.setattr(FakePoint, "load", lambda _: interrupted())
    with pytest.raises(KeyboardInterrupt):
        make_manager()
    assert signal.getsignal(signal.SIGINT) is handler


@dataclasses.dataclass(frozen=True)
class Settings:
    steps: int = 1


def families(answer: Callable[[], Any]) -> Any:
    """A plugin whose ``d3_host_families`` answers so."""
    hook = hookimpl(lambda: answer())
    return types.SimpleNamespace(d3_host_families=hook)


def family(name: Any = "good", settings: Any = Settings, build: Any = print) -> HostFamily:
    return HostFamily(name, "a summary", settings, build)


@pytest.mark.parametrize(
    "answer",
    [
        lambda: 5,
        lambda: [1],
        lambda: sys.exit(3),
        lambda: 1 / 0,
        lambda: [family(name="../../../escaped")],
        lambda: [family(name=None)],
        lambda: [family(name="")],
        lambda: [family(settings=None)],
        lambda: [family(build=None)],
    ],
)
def test_a_plugin_without_usable_families_is_named_and_the_others_work(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[], Any]
) -> None:
    install(monkeypatch, bad=families(answer), good=families(lambda: [family()]))
    with pytest.warns(D3Warning, match="'bad' of distribution 'dist-of-bad' offers no host family"):
        assert list(host_families(make_manager())) == ["good"]
