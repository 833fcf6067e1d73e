"""What D³ knows of the generative code it is attached to, and of a family of such code."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from d3_plugin.data import GZSLData
from d3_plugin.distributed import unwrapped
from d3_plugin.errors import PluginError
from d3_plugin.hosts.call_form import NoiseSource
from d3_plugin.hosts.generator_call import GeneratorCall

Scorer = Callable[[Tensor], Tensor]
"""A trained classifier: (N, D) features -> (N, C) logits or log-probabilities over all classes."""


@dataclass
class Host:
    """A generative GZSL trainer or script that D³ is attached to.

    Attributes:
        name: of the family, shown in messages.
        generator: the module that D³'s gradient goes to, without DistributedDataParallel.
        optimizer: the generator's; holds the generator's parameters.
        data: the GZSL problem, on the generator's device.
        trainer: the trainer object, if there is one; for the hooks of its adapter.
        modules: every module that synthesis runs through; their buffers are kept.
        synthetic_per_class: rows per unseen class for the final classifier.
        interval: with ``mode="hook"``, D³ makes a step with every ``interval``-th step of the
            optimiser, from the first on. Above 1 where the host's own step is as short as D³'s.
        noise_dim: width of the generator's noise, for the default synthesis; None to read it from
            the generator's first linear layer.
        noise: the user's, in the place of what the loop draws.
        in_ddp: whether the generator was given in DistributedDataParallel.
        changed_in_forward: trained parameters whose values a forward pass changes.
    """

    name: str
    generator: nn.Module
    optimizer: torch.optim.Optimizer
    data: GZSLData
    trainer: Any = None
    modules: tuple[nn.Module, ...] = ()
    synthetic_per_class: int = 200
    interval: int = 1
    noise_dim: int | None = None
    noise: NoiseSource | None = None
    in_ddp: bool = field(default=False, init=False)
    changed_in_forward: tuple[Tensor, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        self.in_ddp = isinstance(self.generator, DistributedDataParallel)
        self.generator = unwrapped(self.generator)
        self.modules = tuple(map(unwrapped, self.modules)) or (self.generator,)

    @property
    def device(self) -> torch.device:
        return next(self.generator.parameters()).device

    @cached_property
    def from_noise(self) -> GeneratorCall:
        """The generator on noise and attributes, as the loop calls it."""
        return GeneratorCall(self.generator, self.data, self.noise_dim, self.noise)


@dataclass
class StepBatch:
    """One step of D³, as hooks see it: synthetic unseen rows first, then real seen rows.

    Attributes:
        features: (N, D); gradient reaches the generator's rows through it.
        labels: (N,) class ids.
        num_synthetic: how many rows, from the first on, are synthetic.
        teacher_logits, student_logits: (N, S), (N, C).
        teacher_embedding, student_embedding: (N, K).
    """

    features: Tensor
    labels: Tensor
    num_synthetic: int
    teacher_logits: Tensor
    student_logits: Tensor
    teacher_embedding: Tensor
    student_embedding: Tensor


@dataclass(frozen=True)
class HostFamily:
    """A baseline that ``d3 compare --adapter NAME`` can build and train.

    Attributes:
        name: what the user types.
        summary: one line for ``d3 adapters``.
        settings: a frozen dataclass of hyper-parameters, all with defaults.
        build: ``(data, settings, seed, device) -> trainer`` with ``fit()``, the ``generator``, and
            a ``history`` of dicts: ``step`` and the mean losses since the entry before. ``data`` is
            already scaled. Commands try whether D³ with weight 0 leaves its first steps as they are
            (as :func:`d3_plugin.testing.check_weight_zero` does): then one training carries both,
            otherwise each has its own. A trainer with
            ``state_dict()``, ``load_state_dict()`` and ``fit(on_progress, start=step)`` is
            continued where a killed run left it.
        search: values that ``d3 tune`` tries for settings of the baseline, by name; empty where
            the plugin has none to offer, and then nothing is tuned on the baseline.
        hooks: plugin module or object with the hooks for these trainers, where no installed plugin
            provides the family; default: the module that is named by an import path, or else the
            one that defines ``build``.

    Raises:
        PluginError: a name that cannot be part of a file name, or no such settings or build.
    """

    name: str
    summary: str
    settings: type[Any]
    build: Callable[[GZSLData, Any, int, torch.device], Any] = field(repr=False)
    search: Mapping[str, Sequence[Any]] = field(default_factory=dict, repr=False)
    hooks: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        # The name becomes part of file names.
        named = isinstance(self.name, str) and re.fullmatch(r"\w[\w.-]*", self.name)
        if not named or not is_dataclass(self.settings) or not callable(self.build):
            raise PluginError(
                "HostFamily takes a name of letters, digits, _, - and ., a settings dataclass and "
                f"a build function; got {self.name!r}, {self.settings!r}, {self.build!r}"
            )
