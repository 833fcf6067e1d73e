"""An adapter to check, and what the checks observe."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pluggy
import torch
from torch import Tensor, nn

from d3_plugin.attachment.attach import attach
from d3_plugin.attachment.d3 import D3
from d3_plugin.checks import describe, setting_problems
from d3_plugin.data import GZSLData
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.errors import AdapterError, InputError
from d3_plugin.evaluation.softmax import train_default
from d3_plugin.experiments.host_state import Held, held, held_in
from d3_plugin.hooks.describe import describe_trainer
from d3_plugin.hooks.manager import make_manager
from d3_plugin.hosts.host import Host
from d3_plugin.hosts.host_parts import Mode
from d3_plugin.hosts.isolation import RandomStream
from d3_plugin.hosts.module_state import ModuleState


@dataclass(frozen=True, eq=False)
class AdapterCase:
    """An adapter to check.

    Attributes:
        build: ``(data, seed) -> trainer``, a new one in every call, small enough for a ``fit()`` of
            at most a second; the same seed gives the same trainer. Global random streams are
            seeded when it is built and trained.
        data: a GZSL problem with two or more unseen classes, scaled as the trainer expects, such as
            ``d3_plugin.data.load("digits-1").scaled()``.
        plugins: the adapter's hooks, if it is not installed.
        family_settings: settings with which the host family of the same name as the ``Host`` trains
            quickly; needed if there is such a family.

    Raises:
        InputError: lists attributes of a wrong type; or there is only one unseen class.
    """

    build: Callable[[GZSLData, int], Any]
    data: GZSLData
    plugins: tuple[object, ...] = ()
    family_settings: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        setting_problems("AdapterCase", AdapterCase, vars(self)).raise_as(InputError)
        if len(self.data.unseen_classes) < 2:
            raise InputError("AdapterCase: data must have 2 or more unseen classes, got 1")

    def attached(self, trainer: Any, weight: float, mode: Mode) -> D3:
        settings = D3Settings(weight=weight, embedding_dim=32, teacher_epochs=2, synthetic_rows=16)
        return attach(trainer, settings=settings, mode=mode, plugins=self.plugins)

    def trained(self, weight: float | None = None) -> TrainedHost:
        """A new trainer after ``fit()``, with D³ at this weight or without D³."""
        with seeded(0):
            trainer = self.build(self.data, 0)
            d3 = None if weight is None else self.attached(trainer, weight, "hook")
            trainer.fit()
            streams = torch.rand(4).tolist(), np.random.random(4).tolist(), random.random()  # noqa: NPY002
        manager = make_manager(self.plugins)
        host = describe_trainer(manager, trainer)
        return TrainedHost(trainer, host, manager.hook, streams, d3.steps if d3 else 0)


@dataclass(frozen=True, eq=False)
class TrainedHost:
    """A trainer after ``fit()``, as its adapter describes it, with its hooks.

    Attributes:
        trainer, host, hook: the trainer, its host and the hook relay.
        streams: the next numbers of PyTorch's, NumPy's and Python's global random streams.
        steps: of D³ in ``fit()``.
    """

    trainer: Any
    host: Host
    hook: pluggy.HookRelay
    streams: tuple[Any, ...]
    steps: int

    @property
    def modules(self) -> dict[str, nn.Module]:
        """By name: the trainer, its attributes, and the modules of the ``Host``."""
        parts = {"trainer": self.trainer, **getattr(self.trainer, "__dict__", {})}
        parts |= {"generator": self.host.generator}
        parts |= {f"Host.modules[{i}]": module for i, module in enumerate(self.host.modules)}
        return {name: part for name, part in parts.items() if isinstance(part, nn.Module)}

    def end(self) -> Held:
        """What ``d3 compare`` compares, too, before one training carries the baseline and D³."""
        return {**held(self.trainer, self.host), "global random streams": self.streams}

    def call(self, name: str, **inputs: Any) -> Any:
        """The result of a hook for these inputs, which it must not change."""
        answer = on_copies(name, partial(getattr(self.hook, name), host=self.host), **inputs)
        if answer is not None:
            return answer
        if name == "d3_synthesize_features":
            ids = inputs["class_ids"]
            return self.host.from_noise(ids, self.host.data.attributes[ids])
        return inputs["features"] if name == "d3_transform_features" else train_default(**inputs)

    def rows(self, differentiable: bool, ids: Tensor | None = None, seed: int = 0) -> Tensor:
        """Features (N, D) as D³ asks for them, from a seed; of 20 unseen class ids by default."""
        name, data = "d3_synthesize_features", self.host.data
        ids = data.unseen_classes.repeat(20)[:20] if ids is None else ids
        with seeded(seed), ModuleState(self.host.modules), torch.set_grad_enabled(differentiable):
            rows: Tensor = self.call(name, class_ids=ids, differentiable=differentiable)
        got, wanted = describe(rows), describe(data.train_features[:1].expand(len(ids), -1))
        expect(got == wanted, f"differentiable={differentiable} gives {got}, expected {wanted}")
        return rows

    @property
    def ways(self) -> dict[str, Callable[..., Tensor]]:
        """The two ways to synthesise: ``rows(ids, seed)`` by name for messages."""
        return {f"differentiable={each}": partial(self.rows, each) for each in (False, True)}

    @contextmanager
    def unchanged(self, call: str) -> Iterator[None]:
        """Check that the block leaves every module of the host unchanged."""
        before = state_of(self.modules)
        yield
        expect_none(differences(before, state_of(self.modules)), f"{call} changes")


def expect(ok: bool, problem: str) -> None:
    if not ok:
        raise AdapterError(problem)


def expect_none(names: list[str], problem: str) -> None:
    """Fail if there are names; the message is ``problem`` and the first five."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    expect(not names, f"{problem} {', '.join(names[:5])}{more}")


def on_copies(name: str, function: Callable[..., Any], **inputs: Any) -> Any:
    """The result of a function for copies of these inputs, which it must not change."""
    copies = copy.deepcopy(inputs)
    result = function(**copies)
    before, after = (held_in(each) for each in (inputs, copies))
    expect_none(differences(before, after), f"{name} changes in place its")
    return result


def seeded(seed: int) -> AbstractContextManager[None]:
    """Inside, every global random stream starts from ``seed``; outside, it is unaffected."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return RandomStream(seed, torch.device(device), "adapter kit")


def state_of(modules: Mapping[str, nn.Module]) -> Held:
    """Values, gradients, flags and modes of the modules, by name for messages."""
    state: dict[str, Any] = {}
    for name, module in modules.items():
        state |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
        for key, parameter in module.named_parameters(name):
            state[f"requires_grad of {key}"] = parameter.requires_grad
            state[f".grad of {key}"] = parameter.grad
        for key, part in module.named_modules(prefix=name):
            state[f"train/eval mode of {key}"] = part.training
    return held_in(state)


def differences(before: Held, after: Held) -> list[str]:
    """The names of entries that differ, or that only one side has."""
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]


def without_gradient(generator: nn.Module) -> list[str]:
    """Trainable parameters whose ``.grad`` is missing or all zeros."""
    trainable = ((name, p) for name, p in generator.named_parameters() if p.requires_grad)
    return [name for name, p in trainable if p.grad is None or not p.grad.any()]
