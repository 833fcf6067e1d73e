"""The functions that a user gives to ``attach``, as the plugin that is asked first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import pluggy
import torch
from torch import Tensor

from d3_plugin.errors import HostError
from d3_plugin.hooks.specs import hookimpl
from d3_plugin.hosts.generator_call import Synthesis
from d3_plugin.hosts.host import Host, Scorer
from d3_plugin.hosts.labels import LabelForm

T = TypeVar("T")


@dataclass(eq=False)
class UserHooks:
    """Answers a hook with the user's function; None, if there is none, asks the other plugins.

    Attributes:
        synthesize, transform_features, train_classifier: see :func:`d3_plugin.attach`.
        labels_are: form of the labels for ``train_classifier``.
    """

    synthesize: Synthesis | None
    transform_features: Callable[[Tensor], Tensor] | None
    train_classifier: Callable[[Tensor, Tensor, int], Scorer] | None
    labels_are: LabelForm = "class_ids"

    def named(self, argument: Literal["train_classifier", "transform_features"]) -> str:
        """``argument=function`` if the user gave one to ``attach``; otherwise empty."""
        given = getattr(self, argument)
        name = getattr(given, "__name__", type(given).__name__)
        return "" if given is None else f"{argument}={name}"

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
        self, host: Host, features: Tensor, labels: Tensor, num_classes: int
    ) -> Scorer | None:
        given = self.train_classifier
        if given is None:
            return None
        if self.labels_are == "class_ids":
            return _answer("train_classifier", given(features, labels, num_classes))
        # Of each class among the mapped labels: seen ones 0..S-1, unseen ones behind them.
        place = torch.cat([host.data.seen_classes, host.data.unseen_classes]).argsort()
        scorer = _answer("train_classifier", given(features, place[labels], num_classes))
        return _by_class_id(scorer, place) if callable(scorer) else scorer


def _by_class_id(scorer: Scorer, place: Tensor) -> Scorer:
    """A scorer with columns by class id, of one whose columns are mapped labels."""

    def scores(rows: Tensor) -> Any:
        mapped: Any = scorer(rows)
        if getattr(mapped, "ndim", 0) != 2 or mapped.shape[1] != len(place):
            return mapped  # which is refused
        return mapped[:, place if isinstance(mapped, Tensor) else place.cpu().numpy()]

    scores.__name__ = getattr(scorer, "__name__", type(scorer).__name__)
    return scores


def users_of(hooks: pluggy.HookRelay) -> UserHooks:
    """Those that a user gave; none in a manager without them."""
    plugins = [each.plugin for each in hooks.d3_synthesize_features.get_hookimpls()]
    users = (plugin for plugin in plugins if isinstance(plugin, UserHooks))
    return next(users, UserHooks(None, None, None))


def synthesizes(hooks: pluggy.HookRelay, host: Host) -> str:
    """Who makes the rows: the ``user``'s function, a ``plugin``, or ``d3``, which calls alone."""
    given = users_of(hooks).synthesize
    if given is not None:
        return "d3" if given is host.from_noise else "user"
    plugins = [each.plugin for each in hooks.d3_synthesize_features.get_hookimpls()]
    return "d3" if all(isinstance(plugin, UserHooks) for plugin in plugins) else "plugin"


def _answer(argument: str, answer: T | None) -> T:
    """What a function of the user returned; for None another plugin would be asked."""
    if answer is None:
        raise HostError(f"{argument}= returned None; does it lack a return?")
    return answer
