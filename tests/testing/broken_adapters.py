"""Adapters with one fault each, in description or synthesis, and which check must say so."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from d3_plugin import Host, hookimpl
from d3_plugin.data import GZSLData, pseudo_unseen
from tests.testing.tiny_adapter import TinyHooks, TinyTrainer


@dataclass(frozen=True)
class Broken:
    """A broken adapter.

    Attributes:
        hooks: the class of its hooks.
        check: name of the check that is there for this fault.
        says: pattern of that check's message.
        also: names of the other checks that cannot pass with it.
    """

    hooks: type[TinyHooks]
    check: str
    says: str
    also: tuple[str, ...] = ()


BROKEN: list[Broken] = []

# What needs rows of the right shape.
ON_ROWS = (
    "check_synthesis_order",
    "check_synthesis_finite",
    "check_synthesis_seed",
    "check_synthesis_gradient",
    "check_synthesis_leaves_host",
    "check_classifier",
    "check_weight_zero",
    "check_training",
)


def broken(check: str, says: str, *also: str) -> Callable[[type[TinyHooks]], type[TinyHooks]]:
    def note(hooks: type[TinyHooks]) -> type[TinyHooks]:
        BROKEN.append(Broken(hooks, check, says, also))
        return hooks

    return note


# The description.


@broken("check_description", r"gives Host\(name=.* for an object of another kind.*isinstance")
class AnswersForAll(TinyHooks):
    @hookimpl
    def d3_describe_host(self, trainer: Any) -> Host | None:
        if isinstance(trainer, TinyTrainer):
            return self.describe(trainer)
        net = nn.Linear(1, 1)
        return Host("tiny", net, torch.optim.SGD(net.parameters(), lr=1.0), None)


@broken("check_description", r"AttributeError: 'object' object has no attribute 'generator'")
class AsksForAnAttribute(TinyHooks):
    @hookimpl
    def d3_describe_host(self, trainer: Any) -> Host | None:
        return self.describe(trainer) if trainer.generator is not None else None


@broken(
    "check_description",
    r"gives None for the trainer.*plugin is neither.installed",
    "check_synthesis_form",
    *ON_ROWS,
    "check_family",
)
class KnowsNothing(TinyHooks):
    def describe(self, trainer: TinyTrainer) -> Any:
        return None


@broken(
    "check_description",
    r"the optimizer lacks 4 parameters of the generator",
    "check_weight_zero",
    "check_training",
)
class OptimizerOfTheCritic(TinyHooks):
    def describe(self, trainer: TinyTrainer) -> Any:
        critic = nn.Linear(2, 1)
        return replace(super().describe(trainer), optimizer=torch.optim.Adam(critic.parameters()))


@broken(
    "check_description",
    r"AttributeError: 'NoneType' object .*``Host.optimizer`` its torch optimizer",
    "check_weight_zero",
    "check_training",
)
class NoOptimizer(TinyHooks):
    def describe(self, trainer: TinyTrainer) -> Any:
        return replace(super().describe(trainer), optimizer=None)


@broken("check_description", r"Host.modules lacks the generator")
class ModulesWithoutGenerator(TinyHooks):
    def describe(self, trainer: TinyTrainer) -> Any:
        return replace(super().describe(trainer), modules=(nn.ReLU(),))


@broken(
    "check_description",
    r"Host.generator has no parameter that requires gradient",
    "check_training",
    "check_family",
)
class AverageAsGenerator(TinyHooks):
    def describe(self, trainer: TinyTrainer) -> Any:
        average = copy.deepcopy(trainer.generator).requires_grad_(False)
        return replace(super().describe(trainer), generator=average, modules=(average,))


@broken(
    "check_description",
    r"Host.data has seen_classes \[0, 1, 2\], not \[0, 2, 3, 5\]",
    "check_synthesis_order",  # there is one unseen class only
)
class OtherClasses(TinyHooks):
    def describe(self, trainer: TinyTrainer) -> Any:
        return replace(super().describe(trainer), data=pseudo_unseen(trainer.data, seed=0))


# Synthesis.


@broken(
    "check_synthesis_form",
    r"\(20, 12\) of torch.float64 on cpu, expected a tensor \(20, 12\) of torch.float32",
    *ON_ROWS[:-2],
)
class DoubleRows(TinyHooks):
    def rows(self, trainer: TinyTrainer, ids: Tensor, differentiable: bool) -> Tensor:
        return trainer.synthesize(ids).double()


@broken(
    "check_synthesis_form",
    r"differentiable=False gives .* \(2, 12\) of .* on cpu, expected .* \(20, 12\)",
    *ON_ROWS,
)
class RowPerDistinctClass(TinyHooks):
    def rows(self, trainer: TinyTrainer, ids: Tensor, differentiable: bool) -> Tensor:
        return trainer.synthesize(ids.unique())


@broken("check_synthesis_order", r"rows of another class where 1 was asked for")
class SortedByClass(TinyHooks):
    def rows(self, trainer: TinyTrainer, ids: Tensor, differentiable: bool) -> Tensor:
        return trainer.synthesize(ids.sort().values)


@broken("check_synthesis_order", r"differentiable=False gives.*row i belongs to ``class_ids\[i\]``")
class GroupedByClass(TinyHooks):
    def rows(self, trainer: TinyTrainer, ids: Tensor, differentiable: bool) -> Tensor:
        if differentiable:
            return trainer.synthesize(ids)
        groups = [trainer.synthesize(ids[ids == c]) for c in dict.fromkeys(ids.tolist())]
        return torch.cat(groups)


@broken("check_synthesis_order", r"do not sort.or group the ids")
class Reversed(TinyHooks):
    def rows(self, trainer: TinyTrainer, ids: Tensor, differentiable: bool) -> Tensor:
        return trainer.synthesize(ids).flip(0)


@broken("check_synthesis_order", r"gives two classes the same rows")
class OneClassOnly(TinyHooks):
    def rows(self, trainer: TinyTrainer, ids: Tensor, differentiable: bool) -> Tensor:
        return trainer.synthesize(torch.zeros_like(ids))


@broken(
    "check_synthesis_finite",
    r"differentiable=False gives NaN or Inf",
    "check_synthesis_order",
    "check_classifier",
    "check_weight_zero",
)
class InfiniteRow(TinyHooks):
    def rows(self, trainer: TinyTrainer, ids: Tensor, differentiable: bool) -> Tensor:
        rows = trainer.synthesize(ids)
        return rows if differentiable else torch.cat([rows[:-1], rows[-1:] / 0])


class OwnStreamTrainer(TinyTrainer):
    def __init__(self, data: GZSLData, seed: int, steps: int = 3) -> None:
        super().__init__(data, seed, steps)
        self.stream = torch.Generator().manual_seed(seed)

    def synthesize(self, ids: Tensor) -> Tensor:
        attributes = self.data.attributes[ids]
        noise = torch.randn(attributes.shape, generator=self.stream)
        return self.generator(torch.cat([noise, attributes], dim=1))


@broken("check_synthesis_seed", r"other rows for the same global seed", "check_weight_zero")
class OwnStream(TinyHooks):
    trainer = OwnStreamTrainer


@broken("check_synthesis_seed", r"the same rows for two global seeds")
class SeedsInTheHook(TinyHooks):
    def rows(self, trainer: TinyTrainer, ids: Tensor, differentiable: bool) -> Tensor:
        torch.manual_seed(0)
        return trainer.synthesize(ids)


@broken(
    "check_synthesis_gradient",
    r"no gradient in 0.weight, 0.bias, 2.weight, 2.bias.*\.detach\(\)",
    "check_training",
)
class Detached(TinyHooks):
    def rows(self, trainer: TinyTrainer, ids: Tensor, differentiable: bool) -> Tensor:
        return trainer.synthesize(ids).detach()


@broken(
    "check_synthesis_gradient",
    r"no gradient in 0.weight, 0.bias\. Expected",
    "check_training",
)
class FirstLayerCutOff(TinyHooks):
    def rows(self, trainer: TinyTrainer, ids: Tensor, differentiable: bool) -> Tensor:
        attributes = trainer.data.attributes[ids]
        enter, bend, leave = trainer.generator
        hidden = enter(torch.cat([torch.randn_like(attributes), attributes], dim=1)).detach()
        return leave(bend(hidden))


@broken("check_synthesis_gradient", r"differentiable=False gives rows with gradient")
class AlwaysWithGradient(TinyHooks):
    def rows(self, trainer: TinyTrainer, ids: Tensor, differentiable: bool) -> Tensor:
        with torch.enable_grad():
            return trainer.synthesize(ids)


class NormTrainer(TinyTrainer):
    def __init__(self, data: GZSLData, seed: int, steps: int = 3) -> None:
        super().__init__(data, seed, steps)
        self.norm = nn.BatchNorm1d(data.feature_dim)


@broken(
    "check_synthesis_leaves_host",
    r"in train mode.*train/eval mode of norm",
    "check_weight_zero",
)
class LeavesEvalMode(TinyHooks):
    trainer = NormTrainer

    def rows(self, trainer: Any, ids: Tensor, differentiable: bool) -> Tensor:
        trainer.norm.eval()
        return trainer.synthesize(ids)


@broken(
    "check_synthesis_leaves_host",
    r"changes norm.running_mean, norm.running_var.*list in ``Host.modules`` every module",
    "check_weight_zero",
)
class UnlistedModule(TinyHooks):
    trainer = NormTrainer

    def rows(self, trainer: Any, ids: Tensor, differentiable: bool) -> Tensor:
        return trainer.norm(trainer.synthesize(ids))


@broken("check_synthesis_leaves_host", r"differentiable=True.*\.grad of generator\.0\.bias")
class LeavesGradient(TinyHooks):
    def rows(self, trainer: TinyTrainer, ids: Tensor, differentiable: bool) -> Tensor:
        rows = trainer.synthesize(ids)
        if differentiable:
            rows.sum().backward(retain_graph=True)
        return rows


@broken(
    "check_synthesis_leaves_host",
    r"differentiable=False.*requires_grad of generator\.0\.weight",
    "check_weight_zero",
)
class LeavesFrozen(TinyHooks):
    def rows(self, trainer: TinyTrainer, ids: Tensor, differentiable: bool) -> Tensor:
        trainer.generator[0].weight.requires_grad_(differentiable)
        return trainer.synthesize(ids)
