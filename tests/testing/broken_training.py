"""Adapters with one fault each, in classifier, training or family, and which check must say so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from d3_plugin import Host
from d3_plugin.data import GZSLData
from tests.testing.broken_adapters import broken
from tests.testing.tiny_adapter import TinyHooks, TinyTrainer

# Transform and classifier.


@broken(
    "check_classifier", r"makes a tensor \(20, 32\) of .* on cpu of .* \(20, 12\).*all of one width"
)
class WidthOfTheBatch(TinyHooks):
    def transform(self, trainer: TinyTrainer, features: Tensor) -> Tensor:
        return torch.cat([features, features @ features.T], dim=1)


@broken("check_classifier", r"makes a tensor \(40, 12\) .* of a tensor \(80, 12\).*one row per row")
class DropsRows(TinyHooks):
    def transform(self, trainer: TinyTrainer, features: Tensor) -> Tensor:
        return features[::2]


@broken("check_classifier", r"d3_transform_features changes in place its features.*work on copies")
class TransformsInPlace(TinyHooks):
    def transform(self, trainer: TinyTrainer, features: Tensor) -> Tensor:
        return features.mul_(2)


@broken("check_classifier", r"d3_train_classifier changes in place its features")
class ClassifiesInPlace(TinyHooks):
    def classify(self, trainer: TinyTrainer, features: Tensor, *others: Any) -> Any:
        features -= features.mean(dim=0)
        return super().classify(trainer, features, *others)


@broken("check_classifier", r"the classifier changes in place its rows")
class ScoresInPlace(TinyHooks):
    def classify(self, trainer: TinyTrainer, *arguments: Any) -> Any:
        score = super().classify(trainer, *arguments)
        return lambda rows: score(rows.mul_(2))


@broken("check_classifier", r"\(20, 4\) of .* on cpu, not \(20, 6\).*seen and unseen")
class SeenClassesOnly(TinyHooks):
    def classify(self, trainer: TinyTrainer, *arguments: Any) -> Any:
        score = super().classify(trainer, *arguments)
        return lambda rows: score(rows)[:, trainer.data.seen_classes]


@broken("check_classifier", r"the classifier gives NaN or Inf")
class LogarithmOfZero(TinyHooks):
    def classify(self, trainer: TinyTrainer, *arguments: Any) -> Any:
        score = super().classify(trainer, *arguments)
        return lambda rows: (1000 * score(rows)).softmax(dim=1).log()


@broken("check_classifier", r"'Tensor' object is not callable.*a function from")
class ScoresAtOnce(TinyHooks):
    def classify(self, trainer: TinyTrainer, features: Tensor, *others: Any) -> Any:
        return super().classify(trainer, features, *others)(features)


@broken("check_classifier", r"changes .*generator.2.bias.*the classifier is a separate module")
class ClassifierTrainsGenerator(TinyHooks):
    def classify(self, trainer: TinyTrainer, *arguments: Any) -> Any:
        trainer.generator[2].bias.data += 1
        return super().classify(trainer, *arguments)


# Training.


@broken(
    "check_weight_zero",
    r"D³ at weight 0 changes the result of training: .*generator.*leaves.no trace",
)
class SlowsTheHostDown(TinyHooks):
    def rows(self, trainer: TinyTrainer, ids: Tensor, differentiable: bool) -> Tensor:
        trainer.optimizer.param_groups[0]["lr"] *= 0.5
        return trainer.synthesize(ids)


class UnseededTrainer(TinyTrainer):
    def fit(self) -> None:
        stream = torch.Generator()
        stream.seed()
        with torch.no_grad():
            self.generator[0].weight += torch.randn(
                self.generator[0].weight.shape, generator=stream
            )
        super().fit()


@broken("check_weight_zero", r"two trainings without D³ from one seed differ in .*generator")
class UnseededFit(TinyHooks):
    trainer = UnseededTrainer


@broken("check_training", "the optimizer given to attach is no longer stepped")
class OptimizerOfItsOwn(TinyHooks):
    def describe(self, trainer: TinyTrainer) -> Any:
        own = torch.optim.Adam(trainer.generator.parameters())
        return replace(super().describe(trainer), optimizer=own)


# The family.


@dataclass
class ChangeableSettings:
    steps: int = 3


@broken("check_family", r"ChangeableSettings is not frozen.*``frozen=True``")
class ChangeableFamily(TinyHooks):
    settings = ChangeableSettings


@dataclass(frozen=True)
class IncompleteSettings:
    hidden: int
    steps: int = 3


@broken("check_family", r"TypeError: .* argument: 'hidden'.*with a default for each")
class FamilyWithoutDefaults(TinyHooks):
    settings = IncompleteSettings


class NoDataclass:
    steps = 3


@broken("check_family", r"HostFamily takes a name.*is a dataclass marked")
class FamilyWithoutDataclass(TinyHooks):
    settings = NoDataclass


@dataclass(frozen=True)
class SettingsWithPath:
    steps: int = 3
    folder: Path = Path()


@broken("check_family", r"TypeError: .*Path is not JSON serializable")
class FamilyWithPath(TinyHooks):
    settings = SettingsWithPath


@broken("check_family", r"TypeError: .* unexpected keyword argument 'stepz'")
class MisspeltSettings(TinyHooks):
    family_settings = {"stepz": 2}  # noqa: RUF012


@broken("check_family", r"family HostFamily\(name='tiny'.*, family_settings None")
class UncheckedFamily(TinyHooks):
    family_settings = None


@broken("check_family", r"family None, family_settings {'steps': 2}.*the name of the ``Host``")
class FamilyOfAnotherName(TinyHooks):
    family = "tinier"


class SilentTrainer(TinyTrainer):
    def fit(self) -> None:
        super().fit()
        self.history = [{"error": entry["error"]} for entry in self.history]


@broken("check_family", r"history after fit\(\) is \[.*a list of dicts of ``step`` and mean losses")
class HistoryWithoutSteps(TinyHooks):
    trainer = SilentTrainer


class FreshTrainer(TinyTrainer):
    """Starts wherever the global stream stands: good enough under a seed, but not for a pair."""

    def __init__(self, data: GZSLData, seed: int, steps: int = 3) -> None:
        state = torch.get_rng_state()
        super().__init__(data, seed, steps)
        torch.set_rng_state(state)
        for layer in (self.generator[0], self.generator[2]):
            layer.reset_parameters()


@broken("check_family", r"gives different generator.0.weight")
class UnseededFamily(TinyHooks):
    trainer = FreshTrainer


class NetTrainer(TinyTrainer):
    """Calls its generator ``net``."""

    def __init__(self, data: GZSLData, seed: int, steps: int = 3) -> None:
        super().__init__(data, seed, steps)
        self.net = self.generator
        del self.generator

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def synthesize(self, ids: Tensor) -> Tensor:
        attributes = self.data.attributes[ids]
        return self.net(torch.cat([torch.randn_like(attributes), attributes], dim=1))


@broken("check_family", r"build makes a NetTrainer with generator None")
class FamilyWithoutGenerator(TinyHooks):
    trainer = NetTrainer

    def describe(self, trainer: Any) -> Any:
        return Host("tiny", trainer.net, trainer.optimizer, trainer.data, trainer=trainer)
