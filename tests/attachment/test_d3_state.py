"""``state_dict`` and ``load_state_dict`` of an attached D³."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from d3_plugin import D3Settings, HostError, StepBatch, hookimpl
from d3_plugin.data import GZSLData
from tests.toys import SMALL, ScriptHost, assert_equal, attach


@pytest.mark.parametrize("settings", [SMALL, replace(SMALL, gradient_share=0.1)])
def test_state_dict_continues_the_same_run(
    toy_data: GZSLData, tmp_path: object, settings: D3Settings
) -> None:
    through = ScriptHost(toy_data)
    d3 = attach(through, settings)
    through.run(5, d3)
    through_state = through.state()

    broken = ScriptHost(toy_data)
    first = attach(broken, settings)
    broken.run(2, first)
    torch.save(first.state_dict(), f"{tmp_path}/d3.pt")
    first.detach()
    streams = broken.state()
    second = attach(broken, settings)  # draws and trains anew, then everything is overwritten
    assert_equal(streams, broken.state())
    second.load_state_dict(torch.load(f"{tmp_path}/d3.pt", weights_only=True))
    broken.run(3, second)
    assert second.steps == 5
    assert_equal(through_state, broken.state())
    assert_equal(d3.distiller.state_dict(), second.distiller.state_dict())


class SmallNoise(ScriptHost):
    """Its calls differ from the guess in order, noise and scale of the attributes."""

    def fake(self) -> Tensor:
        att = 3 * self.data.attributes[self.input_label]
        return self.net_g(att, 0.1 * torch.randn_like(att))


@pytest.mark.parametrize("before", [1, 8])
def test_the_loops_call_is_part_of_the_state(
    toy_data: GZSLData, tmp_path: Path, before: int
) -> None:
    """After few calls and after enough; the resumed run asks D³ before it calls the generator."""
    through = SmallNoise(toy_data)
    d3 = attach(through)
    through.run(before, d3)
    torch.save(d3.state_dict(), tmp_path / "d3.pt")
    broken = SmallNoise(toy_data)
    broken.net_g.load_state_dict(through.net_g.state_dict())
    second = attach(broken)
    second.load_state_dict(torch.load(tmp_path / "d3.pt", weights_only=True))
    values = [float(each.loss()) for each in (d3, second)]
    assert values[0] == values[1]
    for each in (d3, second):
        assert "attributes x 3, noise (N, 5) of normal(0, 0." in repr(each.check(prove=False))


DAMAGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "another kind of noise": lambda call: call["slots"][1]["parts"][0].update(kind="gamma"),
    "another number of classes": lambda call: call["slots"][0]["parts"][0].update(
        table=torch.ones(2, 5)
    ),
    "no such part": lambda call: call["slots"][0]["parts"][0].update(part="Host"),
    "a width of words": lambda call: call["slots"][1]["parts"][0].update(width="wide"),
    "no slots": lambda call: call.pop("slots"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_call_in_the_state(toy_data: GZSLData, name: str) -> None:
    host = SmallNoise(toy_data)
    d3 = attach(host)
    host.run(3, d3)
    state = copy.deepcopy(d3.state_dict())
    DAMAGES[name](state["loop_call"])
    with pytest.raises(HostError, match="damaged"):
        d3.load_state_dict(state)
    assert "normal(0, 0.1)" in repr(d3.check(prove=False))


def test_weight_and_offset_of_the_sum_are_no_part_of_a_training(toy_data: GZSLData) -> None:
    host = ScriptHost(toy_data)
    d3 = attach(host)
    host.run(2, d3)
    other = attach(ScriptHost(toy_data), replace(SMALL, ensemble_weight=2.0, seen_offset=0.0))
    other.load_state_dict(d3.state_dict())
    assert_equal(d3.distiller.state_dict(), other.distiller.state_dict())
    assert other.settings.seen_offset == 0.0, "its own stays"


def test_foreign_state_is_refused_and_changes_nothing(toy_data: GZSLData) -> None:
    d3 = attach(ScriptHost(toy_data))
    other = attach(ScriptHost(toy_data), replace(SMALL, embedding_dim=9))
    before = {k: v.clone() for k, v in d3.distiller.state_dict().items()}
    with pytest.raises(HostError, match=r"embedding_dim was 9, is 16"):
        d3.load_state_dict(other.state_dict())
    with pytest.raises(HostError, match="damaged"):
        d3.load_state_dict({"model": 1})
    moved = {**d3.state_dict(), "seen_classes": torch.tensor([0, 1, 2, 3])}
    with pytest.raises(HostError, match=r"the seen classes were \[0, 1, 2, 3\]"):
        d3.load_state_dict(moved)
    assert_equal(before, d3.distiller.state_dict())


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("settings", None),
        ("seen_classes", [0, 2, 3, 5]),
        ("distiller", {}),
        ("optimizer", {}),
        ("optimizer moments", torch.zeros(1)),
        ("random", {}),
        ("steps", "many"),
    ],
)
def test_a_damaged_state_changes_nothing(toy_data: GZSLData, part: str, value: Any) -> None:
    host, another = ScriptHost(toy_data), ScriptHost(toy_data, seed=1)
    d3, other = attach(host), attach(another)
    host.run(1, d3)
    another.run(1, other)
    before = copy.deepcopy(d3.state_dict())
    damaged = copy.deepcopy(other.state_dict())
    if part == "optimizer moments":
        damaged["optimizer"]["state"][0]["exp_avg"] = value
    else:
        damaged[part] = value
    for state in (damaged, None):
        with pytest.raises(HostError, match=r"damaged.*nothing changed"):
            d3.load_state_dict(state)
        assert_equal(before["distiller"], d3.distiller.state_dict())
        for i, moments in d3.state_dict()["optimizer"]["state"].items():
            assert_equal(before["optimizer"]["state"][i], moments)
        assert torch.equal(before["random"]["cpu"], d3.state_dict()["random"]["cpu"])
        assert d3.steps == 1
    d3.loss()


class Average(nn.Module):
    """A loss term with a state: the rows' distance to their moving average."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))

    @hookimpl
    def d3_extra_terms(self, batch: StepBatch) -> dict[str, Tensor]:
        rows = batch.student_embedding
        self.mean = 0.5 * self.mean + 0.5 * rows.detach().mean(dim=0)
        return {"average": (rows - self.mean).square().mean()}


def test_plugins_with_a_state_are_part_of_it(toy_data: GZSLData, tmp_path: Path) -> None:
    width = 16  # of the student's embedding with these settings
    through = ScriptHost(toy_data)
    d3 = attach(through, plugins=[Average(width)])
    through.run(2, d3)
    torch.save(d3.state_dict(), tmp_path / "d3.pt")
    broken = ScriptHost(toy_data)
    broken.net_g.load_state_dict(through.net_g.state_dict())
    average = Average(width)
    second = attach(broken, plugins=[average])
    second.load_state_dict(torch.load(tmp_path / "d3.pt", weights_only=True))
    assert average.mean.abs().sum() > 0
    for each in (d3, second):
        each.loss(features=toy_data.train_features[:8], labels=toy_data.train_labels[:8])
    assert_equal(d3.values, second.values)
    with pytest.raises(HostError, match="nothing changed"):
        attach(ScriptHost(toy_data)).load_state_dict(d3.state_dict())
