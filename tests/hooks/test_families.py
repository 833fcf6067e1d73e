"""The hooks of a family of hosts answer for its own hosts; loggers and further terms for all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import d3_plugin
from d3_adapters.fclswgan import FCLSWGANSettings, FCLSWGANTrainer
from d3_plugin import D3, Host, StepBatch, hookimpl
from d3_plugin.data import GZSLData
from d3_plugin.hosts.host import Scorer
from tests.toys import SMALL, ScriptHost, attach


class Everywhere:
    """A logger with a term of its own; asks no host for its name."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    @hookimpl
    def d3_extra_terms(self, batch: StepBatch) -> dict[str, Tensor]:
        self.calls.append("term")
        return {f"term of {id(self)}": batch.features.mean()}

    @hookimpl
    def d3_after_step(self, step: int) -> None:
        self.calls.append("log")


class Family(Everywhere):
    """Every hook, for the trainers of one class; asks no host for its name either."""

    def __init__(self, kind: type, name: str = "family") -> None:
        super().__init__()
        self.kind, self.name = kind, name

    @hookimpl
    def d3_describe_host(self, trainer: Any) -> Host | None:
        if not isinstance(trainer, self.kind):
            return None
        return Host(self.name, trainer.net_g, trainer.optimizer_g, trainer.data, trainer=trainer)

    @hookimpl
    def d3_synthesize_features(self, host: Host, class_ids: Tensor) -> Tensor:
        self.calls.append("synthesize")
        attributes = host.data.attributes[class_ids]
        return host.generator(torch.randn_like(attributes), attributes)

    @hookimpl
    def d3_transform_features(self, features: Tensor) -> Tensor:
        self.calls.append("transform")
        return features

    @hookimpl
    def d3_train_classifier(self, features: Tensor, num_classes: int) -> Scorer:
        self.calls.append("classifier")
        return nn.Linear(features.shape[1], num_classes)


EVERY = ["synthesize", "term", "log", "synthesize", "transform", "classifier", "transform"]


class Other:
    """A trainer of nobody's here."""


def attached(kind: str, data: GZSLData, plugins: list[object]) -> D3:
    """To a script, to a trainer of a plugin of the test's, or to one of an installed plugin."""
    if kind == "script":
        return attach(ScriptHost(data), plugins=plugins)
    trainer: Any = ScriptHost(data)
    if kind == "installed":
        trainer = FCLSWGANTrainer(data, FCLSWGANSettings(hidden=8, classifier_epochs=1))
    return d3_plugin.attach(trainer, settings=SMALL, mode="loss", plugins=plugins)


@pytest.mark.parametrize("own_first", [True, False])
@pytest.mark.parametrize("kind", ["script", "trainer", "installed"])
def test_a_foreign_family_is_never_called(toy_data: GZSLData, kind: str, own_first: bool) -> None:
    own, foreign, logger = Family(ScriptHost), Family(Other), Everywhere()
    plugins = [own, foreign, logger] if own_first else [logger, foreign, own]
    d3 = attached(kind, toy_data, plugins)
    d3.loss()
    d3.evaluate()
    assert foreign.calls == []
    assert own.calls == (EVERY if kind == "trainer" else [])
    assert logger.calls == ["term", "log"]


def test_a_familys_name_opens_no_door(toy_data: GZSLData) -> None:
    """The installed plugins are not asked for a host that only shares a name with theirs."""
    own = Family(ScriptHost, "fclswgan")
    d3 = attached("trainer", toy_data, [own])
    d3.loss()
    d3.evaluate()
    assert own.calls == EVERY


def test_of_two_that_know_a_trainer_the_one_given_last_owns_it(toy_data: GZSLData) -> None:
    first, last = Family(ScriptHost), Family(ScriptHost)
    attached("trainer", toy_data, [first, last]).loss()
    assert first.calls == []
    assert last.calls == EVERY[:3]


def test_only_the_owner_is_asked_in_evaluate_of_a_baseline(toy_data: GZSLData) -> None:
    own, foreign = Family(ScriptHost), Family(Other)
    d3_plugin.evaluate(ScriptHost(toy_data), plugins=[own, foreign])
    assert own.calls[:4] == EVERY[3:]
    assert set(own.calls[4:]) == {"synthesize"}  # of seen classes, as a check
    assert foreign.calls == []


def test_two_attachments_know_nothing_of_each_other(toy_data: GZSLData) -> None:
    """A plugin that one leaves out still serves the other."""
    own = Family(ScriptHost)
    attached("script", toy_data, [own]).loss()
    attached("trainer", toy_data, [own]).loss()
    assert own.calls == EVERY[:3]
