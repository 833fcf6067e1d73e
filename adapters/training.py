"""What the three trainers share: settings, the training loop, saved states, the classifier."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from d3_plugin.checks import Count, Positive, setting_problems
from d3_plugin.data import GZSLData
from d3_plugin.errors import InputError
from d3_plugin.evaluation.softmax import train_softmax

Progress = Callable[[int, dict[str, float]], None]

SEARCH: dict[str, list[Any]] = {
    "lr": [1e-4, 3e-4, 1e-3],
    "synthetic_per_class": [50, 100, 200, 400, 800],
    "classifier_epochs": [10, 25, 50],
    "classifier_lr": [3e-4, 1e-3, 3e-3],
}
"""The values that ``d3 tune`` tries for the shared settings."""


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of every trainer.

    Attributes:
        steps: generator steps.
        batch_size: rows per step.
        lr: Adam's learning rate for the generator.
        synthetic_per_class: rows per unseen class for the final classifier.
        classifier_epochs, classifier_lr: of the final classifier.

    Raises:
        InputError: lists every value outside its range.
    """

    steps: Count = 600
    batch_size: Count = 64
    lr: Positive = 3e-4
    synthetic_per_class: Count = 200
    classifier_epochs: Count = 25
    classifier_lr: Positive = 1e-3

    def __post_init__(self) -> None:
        setting_problems(type(self).__name__, type(self), vars(self)).raise_as(InputError)


class Trainer:
    """A baseline whose ``step`` is repeated by ``fit``.

    Args:
        data: the GZSL problem; only its training rows and attributes are used.
        settings: hyper-parameters, of the trainer's ``settings_type``; default: its defaults.
        seed: of PyTorch's global random stream, set here once.
        device: where to train.

    Attributes:
        settings_type: the dataclass of its settings.
        losses: names of the losses that ``step`` returns.
        parts: names of the networks and optimisers that ``state_dict`` saves.
        noise_dim: Z, width of the generator's noise.
        history: dicts of ``step`` and the mean losses since the entry before.
    """

    settings_type: type[TrainingSettings]
    losses: tuple[str, ...]
    parts: tuple[str, ...]
    noise_dim: int

    def __init__(
        self,
        data: GZSLData,
        settings: TrainingSettings | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        torch.manual_seed(seed)
        self.settings = settings or self.settings_type()
        self.device = torch.device(device)
        self.data = data.to(self.device)
        self.history: list[dict[str, float]] = []
        self.make_networks()

    def make_networks(self) -> None:
        """Makes networks and optimisers on ``device``, and what is fitted before the first step."""

    def step(self, number: int) -> Sequence[Tensor]:
        """Generator step ``number``, from 1 on, with its critic steps; returns ``losses``."""
        raise NotImplementedError

    def fit(self, on_progress: Progress | None = None, *, start: int = 0) -> None:
        """Train for ``settings.steps`` steps.

        Args:
            on_progress: called 20 times as ``on_progress(step, losses)`` with the mean losses since
                the call before.
            start: the step at which a loaded :meth:`state_dict` was saved.
        """
        part = max(1, self.settings.steps // 20)
        total = torch.zeros(len(self.losses), device=self.device)
        for step in range(start + 1, self.settings.steps + 1):
            total += torch.stack(tuple(self.step(step)))
            if step % part == 0:
                losses = dict(zip(self.losses, (total / part).tolist(), strict=True))
                self.history.append({"step": step, **losses})
                total.zero_()
                if on_progress is not None:
                    on_progress(step, losses)

    def state_dict(self) -> dict[str, Any]:
        """Everything that continues a run, except the step and the global random streams."""
        states = {name: getattr(self, name).state_dict() for name in self.parts}
        return {**states, "history": copy.deepcopy(self.history)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a :meth:`state_dict`.

        Raises:
            ValueError: parts are missing; lists them.
            RuntimeError: a network has other shapes.
        """
        missing = [name for name in (*self.parts, "history") if name not in state]
        if missing:
            raise ValueError(f"not a state of {type(self).__name__}: it lacks {', '.join(missing)}")
        for name in self.parts:
            getattr(self, name).load_state_dict(state[name])
        self.history = copy.deepcopy(state["history"])

    def batch(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Random rows of ``features``, which has one per training row, and their labels."""
        rows = torch.randint(len(features), (self.settings.batch_size,), device=self.device)
        return features[rows], self.data.train_labels[rows]

    def noise(self, rows: int, stream: torch.Generator | None = None) -> Tensor:
        """Standard normal (rows, Z)."""
        return torch.randn(rows, self.noise_dim, device=self.device, generator=stream)

    def seen_positions(self, labels: Tensor) -> Tensor:
        """Positions of class ids (N,) among the seen classes."""
        return torch.searchsorted(self.data.seen_classes, labels)

    def train_classifier(self, features: Tensor, labels: Tensor) -> nn.Linear:
        """The final softmax over all classes, on real seen and synthetic unseen rows."""
        s = self.settings
        return train_softmax(
            features,
            labels,
            self.data.num_classes,
            epochs=s.classifier_epochs,
            lr=s.classifier_lr,
            batch_size=s.synthetic_per_class,
        )


def descend(loss: Tensor, *optimizers: torch.optim.Optimizer) -> None:
    """One step of each optimiser on the loss."""
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
