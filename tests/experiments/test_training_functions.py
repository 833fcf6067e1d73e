"""A baseline that is a function with its loop: ``compare`` attaches D³ in it, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import d3_plugin
from d3_plugin import D3Error, D3Settings, InputError, hookimpl
from d3_plugin.data import GZSLData, load
from d3_plugin.experiments import compare
from d3_plugin.experiments.code import code_of
from d3_plugin.experiments.families import find_family
from d3_plugin.experiments.training_function import LoopTrainer
from tests.experiments.tiny import D3

# A few steps on the first batch alone.
pytestmark = pytest.mark.filterwarnings(r"ignore:\d+% of synthetic rows of seen classes")

CALLS: list[tuple[Any, ...]] = []


@dataclass(frozen=True)
class Settings:
    steps: int = 60


def loop(own: GZSLData, d3: Any, steps: int, **parts: Any) -> None:
    """A regression on noise and attributes."""
    width = own.attributes.shape[1]
    generator = nn.Linear(2 * width, own.feature_dim)
    optimizer = torch.optim.SGD(generator.parameters(), lr=0.01)

    def synthesize(class_ids: torch.Tensor, attributes: torch.Tensor) -> torch.Tensor:
        return generator(torch.cat([torch.randn_like(attributes), attributes], dim=1))

    attached = d3.attach(generator=generator, optimizer=optimizer, synthesize=synthesize, **parts)
    CALLS.append((type(attached).__name__, generator.weight.sum().item()))
    for _ in range(steps):
        labels, rows = own.train_labels[:32], own.train_features[:32]
        loss = (synthesize(labels, own.attributes[labels]) - rows).norm()
        if "mode" not in parts:
            loss = loss + d3.loss(rows, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def train(data: GZSLData, settings: Settings, seed: int, d3: Any = d3_plugin) -> None:
    """A regression.

    With more to say of it.
    """
    assert seed == 0
    loop(data, d3, settings.steps)


class Noted:
    """A plugin that is added, and does not change anything."""

    @hookimpl
    def d3_after_step(self, step: int) -> None:
        CALLS.append(("Noted", step))


def compared(function: Callable[..., object], out: Path, **options: Any) -> Any:
    small = {"seeds": 1, "cuts": 1, "draws": 1, "d3": D3, "progress": "none", **options}
    return compare(function, "digits-1", out, **small)


def test_a_pair_starts_alike_and_ends_alike_at_weight_zero(tmp_path: Path) -> None:
    CALLS.clear()
    comparison = compared(train, tmp_path)
    rows = comparison.rows["test_training_functions.train"]
    assert [name for name, _ in CALLS] == ["WithoutD3", "D3"] * 2
    assert len({weight for _, weight in CALLS}) == 1, "seeds are set before"
    assert rows["d3_host"]["metrics"]["ausuc"]["difference"]["mean"] == 0
    assert rows["d3"]["metrics"]["ausuc"]["difference"]["mean"] != 0
    made = [run for run in comparison.content["runs"] if run["d3_history"]]
    assert made[0]["d3_history"][0]["step"] == 50
    assert not any(run["history"] for run in comparison.content["runs"])

    compared(train, tmp_path)
    assert len(CALLS) == 4, "finished runs are not made again"
    assert find_family(train).summary == "A regression."


def test_only_data_and_d3_are_needed(tmp_path: Path) -> None:
    """Here the optimiser's hook makes D³'s steps, which reach the generator."""

    def short(data: GZSLData, d3: Any) -> None:
        loop(data, d3, 20, mode="hook", data=data)

    CALLS.clear()
    comparison = compared(short, tmp_path, d3={**D3, "weight": 1.0}, plugins=[Noted()])
    rows = comparison.rows["test_training_functions.short"]
    assert rows["d3_host"]["metrics"]["ausuc"]["difference"]["mean"] != 0
    assert CALLS.count(("Noted", 20)) == 2, "on the test and the validation problem"
    noted, plain = (rows[row]["metrics"]["ausuc"]["per_seed"] for row in ("d3-Noted", "d3"))
    assert noted == plain


def test_what_a_function_was_made_with_is_part_of_a_run() -> None:
    def make(rate: float) -> Callable[..., None]:
        def made(data: GZSLData, d3: Any) -> None:
            loop(data, d3, int(rate))

        return made

    one, same, other = (code_of("x", find_family(make(rate))) for rate in (1, 1, 2))
    assert one == same != other
    assert one.modules.keys() >= {__name__}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def f(data, settings, d3): ...", "write the dataclass of its settings"),
        ("def f(data, settings: dict, d3): ...", "write the dataclass of its settings"),
        ("def f(data, rate, *, d3): ...", "other arguments need a default: rate"),
        ("def f(data): ...", "missing: d3"),
        ("def f(x): ...", "other arguments need a default: x\n  - missing: data, d3"),
        ("def f(data, settings: Unknown, d3): ...", "write the dataclass of its settings"),
    ],
)
def test_other_functions_are_refused(
    monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    module = ModuleType("other_loops")
    exec(source, vars(module))
    monkeypatch.setitem(sys.modules, "other_loops", module)
    with pytest.raises(InputError) as raised:
        find_family("other_loops:f")
    assert message in str(raised.value)
    assert "f() in other_loops" in str(raised.value)


@pytest.mark.parametrize("given", [partial(train), lambda data, d3: None, LoopTrainer])
def test_only_functions_with_a_name_are_taken(given: Any) -> None:
    with pytest.raises(InputError, match=r"is not a function train.* that was made by def"):
        compare(given)


def without_attach(data: GZSLData, d3: Any) -> None:
    pass


def loss_first(data: GZSLData, d3: Any) -> None:
    d3.loss()


def twice(data: GZSLData, d3: Any) -> None:
    for _ in range(2):
        loop(data, d3, 0)


def exits(data: GZSLData, d3: Any) -> None:
    sys.exit("done")


def other_rows(data: GZSLData, d3: Any) -> None:
    loop(data, d3, 0, data=load("digits-2"))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (without_attach, r"without_attach\(\) has called no d3.attach\("),
        (loss_first, r"call d3.attach\(.* before loss\(\)"),
        (twice, r"calls d3.attach\(\) once"),
        (exits, r"exits\(\) exits: done"),
        (other_rows, "must be the data that the training function was given"),
    ],
)
def test_mistakes_in_the_loop(function: Any, message: str) -> None:
    with pytest.raises(D3Error, match=message):
        LoopTrainer(function, load("digits-1"), None, 0).fit()


@pytest.mark.parametrize("with_d3", [False, True])
def test_a_classifier_of_the_baseline_gets_labels_in_the_same_form(with_d3: bool) -> None:
    """Mapped: the unseen classes behind the seen ones, in both rows of a comparison."""
    own = load("digits-1").scaled()
    given: list[torch.Tensor] = []

    def classifier(features: torch.Tensor, labels: torch.Tensor, num_classes: int) -> Any:
        given.append(labels)
        return nn.Linear(own.feature_dim, num_classes)

    def mapped(data: GZSLData, d3: Any) -> None:
        loop(data, d3, 0, data=data, labels_are="mapped", train_classifier=classifier)
        d3.loss().backward()

    trainer = LoopTrainer(mapped, own, None, 0)
    if with_d3:
        trainer.when_attached = partial(trainer.attach_d3, D3Settings(**D3), 0, [])
    trainer.fit()
    d3_plugin.evaluate(trainer, draws=1, plugins=trainer.plugins)
    rows = own.train_labels.bincount()[own.seen_classes]
    assert given[0].bincount()[: len(rows)].tolist() == rows.tolist()


def test_rows_are_made_as_the_loop_was_seen_to_call() -> None:
    """Also those that are shown in a report, where the width of the noise was given."""
    own = load("digits-1").scaled()

    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(5 + own.attributes.shape[1], own.feature_dim)

        def forward(self, z: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
            rows: torch.Tensor = self.net(torch.cat([z, a], dim=1))
            return rows

    def train(data: GZSLData, d3: Any) -> None:
        generator = Generator()
        optimizer = torch.optim.SGD(generator.parameters(), lr=0.01)
        d3.attach(generator=generator, optimizer=optimizer, noise_dim=5)
        for _ in range(10):
            generator(3 + 0.1 * torch.randn(32, 5), data.attributes[data.train_labels[:32]])

    trainer = LoopTrainer(train, own, None, 0)
    trainer.when_attached = partial(trainer.attach_d3, D3Settings(**D3), 0, [])
    trainer.fit()
    functions = trainer.plugins[1]
    assert functions.synthesize is trainer.host.from_noise  # type: ignore[attr-defined]
    assert "normal(3, 0.1)" in str(trainer.host.from_noise.form(now=True))
