"""A baseline that is a training function: a loop that attaches D³ itself."""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from d3_plugin.attachment.attach import attach_to
from d3_plugin.attachment.d3 import D3
from d3_plugin.checks import takes
from d3_plugin.data import GZSLData
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.errors import HostError, InputError, PluginError, Problems
from d3_plugin.hooks.describe import host_of, users_functions
from d3_plugin.hooks.specs import hookimpl
from d3_plugin.hosts.host import Host, HostFamily
from d3_plugin.hosts.host_parts import LoopParts

FORM = "a function train(data, settings, seed, d3)"

_ENTRY = 50  # steps between records of D³'s terms; the length of the loop is unknown


@dataclass(frozen=True)
class NoSettings:
    """Settings of a training function that takes none."""


@dataclass(frozen=True)
class TrainingFunction:
    """``build`` of a host family that is a function.

    Attributes:
        function: takes any of ``data``, ``settings``, ``seed`` and ``d3`` by these names.
    """

    function: Callable[..., object]

    def __call__(
        self, data: GZSLData, settings: Any, seed: int, device: torch.device
    ) -> LoopTrainer:
        return LoopTrainer(self.function, data.to(device), settings, seed)


def is_training_function(found: object) -> bool:
    """Whether it takes ``d3``."""
    return inspect.isfunction(found) and "d3" in inspect.signature(found).parameters


def family_of(function: Callable[..., object]) -> HostFamily:
    """A training function as a host family; it is named after its module and itself.

    Raises:
        InputError: it was not made by ``def``, it takes other arguments, or its settings are no
            dataclass.
    """
    if not inspect.isfunction(function) or not function.__name__.isidentifier():
        raise InputError(f"adapter: {function!r} is not {FORM} that was made by def")
    name, module = function.__name__, function.__module__
    problems = Problems(f"{name}() in {module}, which must be {FORM}")
    parameters = inspect.signature(function).parameters
    needed = {n for n, p in parameters.items() if p.default is p.empty}
    if others := sorted(needed - {"data", "settings", "seed", "d3"}):
        problems.add(f"other arguments need a default: {', '.join(others)}")
    if missing := [each for each in ("data", "d3") if each not in parameters]:
        problems.add(f"missing: {', '.join(missing)}")
    settings = _annotation(function, "settings") if "settings" in parameters else NoSettings
    if settings is None:
        problems.add("write the dataclass of its settings as an annotation, settings: Settings")
    problems.raise_as(InputError)
    summary = (inspect.getdoc(function) or "a training function").splitlines()[0]
    if module != "__main__":
        name = f"{module.rpartition('.')[2]}.{name}"
    build = TrainingFunction(function)
    return HostFamily(name, summary, settings or NoSettings, build, hooks=sys.modules[module])


def _annotation(function: Callable[..., object], argument: str) -> type[Any] | None:
    """The dataclass that annotates an argument; None if something else does, or nothing."""
    found = inspect.signature(function).parameters[argument].annotation
    if isinstance(found, str):  # as with "from __future__ import annotations"
        with suppress(Exception):
            found = eval(found, vars(sys.modules[function.__module__]))
    return found if isinstance(found, type) and is_dataclass(found) else None


class LoopTrainer:
    """A training function as a trainer whose ``fit()`` calls it; the function knows it as ``d3``.

    Args:
        function, settings, seed: of the run.
        data: on the device of the run.

    Attributes:
        history: dicts of ``step`` alone, which end the records of D³'s terms.
        attach: as :func:`d3_plugin.attach`, with the settings and the seed of the run.
        when_attached: called as the loop attaches; may call :meth:`attach_d3`.
        host: the generator and the rest of the loop, from then on.
        d3: attached to it; without D³ in the baseline.
    """

    host: Host
    d3: D3 | WithoutD3
    _given: LoopParts

    def __init__(
        self, function: Callable[..., object], data: GZSLData, settings: Any, seed: int
    ) -> None:
        self._function, self._data, self._settings, self._seed = function, data, settings, seed
        self.history: list[dict[str, float]] = []
        self.when_attached: Callable[[], object] = list
        self.attach = takes(LoopParts)(self._attach)

    @property
    def generator(self) -> nn.Module:
        return self.host.generator

    @property
    def plugins(self) -> list[object]:
        """Plugins that describe the host and call the loop's functions."""
        return [self, users_functions(self._given, self.host)]

    def fit(self) -> None:
        """Call the function, with seeds set.

        Raises:
            PluginError: it never attached D³, or exits.
        """
        torch.manual_seed(self._seed)
        np.random.seed(self._seed)  # noqa: NPY002 - scripts draw from it
        random.seed(self._seed)
        values = {"data": self._data, "settings": self._settings, "seed": self._seed, "d3": self}
        wanted = inspect.signature(self._function).parameters
        name = f"{self._function.__name__}()"
        try:
            self._function(**{k: value for k, value in values.items() if k in wanted})
        except SystemExit as error:  # would end the worker, and with it the other runs
            raise PluginError(f"{name} exits: {error}") from error
        if not hasattr(self, "host"):
            raise PluginError(
                f"{name} has called no d3.attach(generator=..., optimizer=..., data=data): there "
                "is nothing to score"
            )

    def _attach(self, given: LoopParts) -> D3 | WithoutD3:
        """As :func:`d3_plugin.attach`, with the settings and the seed of the run.

        Raises:
            HostError: called a second time, or for data of other classes or test rows.
        """
        if hasattr(self, "host"):
            raise HostError("a training function calls d3.attach() once")
        if given.data is None:
            given.data = self._data
        self._given = given
        self.host, _ = host_of(given)
        for part in ("unseen_classes", "test_unseen_labels", "test_seen_labels"):
            if not torch.equal(getattr(self.host.data, part), getattr(self._data, part)):
                raise HostError(
                    "data= of d3.attach() must be the data that the training function was given; "
                    f"these have other {part}"
                )
        self.d3 = WithoutD3(self.host.device)
        self.when_attached()
        if given.synthesize is None and isinstance(self.d3, WithoutD3):
            self.host.from_noise.watch()  # as D³ does: the evaluation then calls as the loop did
        return self.d3

    def attach_d3(self, settings: D3Settings, seed: int, plugins: Sequence[object]) -> D3:
        """Attach D³ where the loop is attaching."""
        self.host, hooks = host_of(self._given, plugins=[*plugins, _Steps(self.history)])
        d3 = attach_to(self.host, hooks, self._given, settings=settings, seed=seed)
        self.d3 = d3
        return d3

    def loss(self, *batch: Any, **options: Any) -> Tensor:
        """``loss()`` of what :meth:`attach` has returned."""
        if not hasattr(self, "d3"):
            raise HostError("call d3.attach(generator=..., optimizer=..., data=data) before loss()")
        return self.d3.loss(*batch, **options)

    @hookimpl
    def d3_describe_host(self, trainer: object) -> Host | None:
        return self.host if trainer is self else None


class WithoutD3:
    """Stands for D³ in the loop of the baseline: its loss is 0."""

    def __init__(self, device: torch.device) -> None:
        self._device, self.values = device, dict[str, Tensor]()

    def loss(self, *_: Any, **__: Any) -> Tensor:
        """Zero, with a graph as that of D³ at weight 0."""
        return torch.zeros((), device=self._device, requires_grad=torch.is_grad_enabled())


class _Steps:
    """A plugin that makes the entries of :attr:`LoopTrainer.history`."""

    def __init__(self, history: list[dict[str, float]]) -> None:
        self._history = history

    @hookimpl
    def d3_after_step(self, step: int) -> None:
        if step % _ENTRY == 0:
            self._history.append({"step": step})
