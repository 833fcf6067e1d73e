"""The functions that a user gives to ``attach``, as the plugin that is asked first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import pluggy
from torch import Tensor

from d3_plugin.errors import HostError
from d3_plugin.hooks.specs import hookimpl
from d3_plugin.hosts.call_form import Synthesis
from d3_plugin.hosts.host import Host, Scorer

T = TypeVar("T")


@dataclass(eq=False)
class UserHooks:
    """Answers a hook with the user's function; None, if there is none, asks the other plugins.

    Attributes:
        synthesize, transform_features, train_classifier: see :func:`d3_plugin.attach`.
    """

    synthesize: Synthesis | None
    transform_features: Callable[[Tensor], Tensor] | None
    train_classifier: Callable[[Tensor, Tensor, int], Scorer] | None

    @hookimpl(tryfirst=True)
    def d3_synthesize_features(self, host: Host, class_ids: Tensor) -> Tensor | None:
        given, attributes = self.synthesize, host.data.attributes
        return None if given is None else given(class_ids, attributes[class_ids])

    @hookimpl(tryfirst=True)
    def d3_transform_features(self, features: Tensor) -> Tensor | None:
        given = self.transform_features
        return None if given is None else _answer("transform_features", given(features))

    @hookimpl(tryfirst=True)
    def d3_train_classifier(
        self, features: Tensor, labels: Tensor, num_classes: int
    ) -> Scorer | None:
        given = self.train_classifier
        if given is None:
            return None
        return _answer("train_classifier", given(features, labels, num_classes))


def synthesizes(hooks: pluggy.HookRelay, host: Host) -> str:
    """Who makes the rows: the ``user``'s function, a ``plugin``, or ``d3``, which calls alone."""
    plugins = [each.plugin for each in hooks.d3_synthesize_features.get_hookimpls()]
    for plugin in plugins:
        if isinstance(plugin, UserHooks) and plugin.synthesize is not None:
            return "d3" if plugin.synthesize is host.from_noise else "user"
    return "d3" if all(isinstance(plugin, UserHooks) for plugin in plugins) else "plugin"


def classifier_of_user(hooks: pluggy.HookRelay) -> str:
    """``train_classifier=its_name``; empty without one."""
    for each in hooks.d3_train_classifier.get_hookimpls():
        plugin = each.plugin
        if isinstance(plugin, UserHooks) and plugin.train_classifier is not None:
            given = plugin.train_classifier
            return f"train_classifier={getattr(given, '__name__', type(given).__name__)}"
    return ""


def _answer(argument: str, answer: T | None) -> T:
    """What a function of the user returned; for None another plugin would be asked."""
    if answer is None:
        raise HostError(f"{argument}= returned None; does it lack a return?")
    return answer
