"""A regression whose code has, by its setting ``idiom``, something that D³'s presence changes."""

from __future__ import annotations

import functools
import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from d3_plugin import Host, HostFamily, hookimpl
from tests.experiments import tiny

RECENT: list[Tensor] = []


class Pool:
    taken = 0

    @classmethod
    def take(cls) -> None:
        cls.taken += 1


class Slots:
    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls = 0

    def count(self) -> None:
        self.calls += 1


class Critic(nn.Module):
    """Its state dict alone shows what it has counted."""

    def __init__(self) -> None:
        super().__init__()
        self._calls = torch.zeros(())

    def get_extra_state(self) -> dict[str, Tensor]:
        return {"calls": self._calls}

    def count(self) -> None:
        self._calls = self._calls + 1


LATEST = deque([0], maxlen=1)
CRITIC = Critic()


def of_a_function() -> None:
    vars(of_a_function)["calls"] = vars(of_a_function).get("calls", 0) + 1


def in_a_default(calls: list[int] = [0]) -> None:  # noqa: B006
    calls[0] += 1


def made() -> Callable[[], None]:
    calls = 0

    def in_a_closure() -> None:
        nonlocal calls
        calls += 1

    return in_a_closure


def numbers() -> Iterator[int]:
    number = 0
    while True:
        number += 1
        yield number


@functools.cache
def of_a_cache() -> int:
    return 1


COUNTERS: dict[str, Callable[[], object]] = {
    "of a class": Pool.take,
    "of a function": of_a_function,
    "in a default": in_a_default,
    "in a closure": made(),
    "of a generator": numbers().__next__,
    "of an iterator": iter(range(10**6)).__next__,
    "with slots": Slots().count,
    "in a deque": lambda: LATEST.append(LATEST[0] + 1),
    "in an extra state": CRITIC.count,
    "of a cache": of_a_cache,
    "in another module": lambda: vars(tiny).update(calls=vars(tiny).get("calls", 0) + 1),
}
"""Of calls, each in a place of its own. Nothing comes of them in the first steps."""


@dataclass(frozen=True)
class Settings:
    idiom: str = "plain"
    steps: int = 30


class Trainer:
    calls = 0

    def __init__(self, data: Any, settings: Settings, seed: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        self.data, self.settings = data, settings
        self.history: list[dict[str, float]] = []
        width = data.attributes.shape[1]
        self.generator = nn.Linear(2 * width, data.feature_dim)
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=1e-2)
        self.noise = torch.Generator().manual_seed(seed)
        self.pool = itertools.cycle(torch.randn(50, width).unbind())
        self.mean = torch.zeros(data.feature_dim)
        RECENT.clear()
        if settings.idiom == "hook on the generator":
            self.generator.register_forward_hook(self.centre)

    def centre(self, _: nn.Module, __: object, rows: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * rows.detach().mean(dim=0)
        return rows - self.mean

    def synthesize(self, class_ids: Tensor) -> Tensor:
        attributes = self.data.attributes[class_ids]
        noise = torch.randn_like(attributes)
        if self.settings.idiom == "weight changed in forward":
            self.generator.weight.data.mul_(0.999)
        if self.settings.idiom == "attributes changed in place":
            self.data.attributes.mul_(0.999)
        if self.settings.idiom == "stream of its own":
            noise = torch.randn(attributes.shape, generator=self.noise)
        if self.settings.idiom == "pool of noise":
            noise = torch.stack([next(self.pool) for _ in class_ids])
        rows: Tensor = self.generator(torch.cat([noise, attributes], dim=1))
        if self.settings.idiom == "replay":
            RECENT.append(rows.detach().mean(dim=0))
        if self.settings.idiom == "counter of calls":
            Trainer.calls += 1
        if counter := COUNTERS.get(self.settings.idiom):
            counter()
        return rows

    def fit(self) -> None:
        batches: queue.Queue[Tensor] = queue.Queue(2)
        if self.settings.idiom == "loader thread":
            threading.Thread(target=self.load, args=(batches,), daemon=True).start()
        for step in range(self.settings.steps):
            rows = torch.randint(len(self.data.train_labels), (32,))
            if self.settings.idiom == "loader thread":
                rows = batches.get()
            error = self.synthesize(self.data.train_labels[rows]) - self.data.train_features[rows]
            loss = error.square().mean()
            if self.settings.idiom == "replay":
                loss = loss * RECENT[-3:][0].abs().mean()
            # So late that its state alone shows it.
            if self.settings.idiom == "counter of calls" and Trainer.calls > 10_000:
                loss = 0.1 * loss.sqrt()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.history.append({"step": step + 1, "loss": loss.item()})

    def load(self, batches: queue.Queue[Tensor]) -> None:
        for _ in range(self.settings.steps):
            rows = np.random.randint(0, len(self.data.train_labels), 32)  # noqa: NPY002
            batches.put(torch.from_numpy(rows))


@hookimpl
def d3_describe_host(trainer: Any) -> Host | None:
    if not isinstance(trainer, Trainer):
        return None
    return Host("spoiled", trainer.generator, trainer.optimizer, trainer.data, trainer=trainer)


@hookimpl
def d3_synthesize_features(host: Host, class_ids: Tensor) -> Tensor:
    rows: Tensor = host.trainer.synthesize(class_ids)
    return rows


family = HostFamily("spoiled", "a regression", Settings, Trainer)
