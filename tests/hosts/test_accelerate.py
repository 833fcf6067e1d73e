"""A loop of HuggingFace accelerate: bf16 autocast, gradient accumulation and clipping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import d3_plugin
from d3_plugin import D3
from d3_plugin.data import GZSLData
from tests.toys import SMALL, NoticingGenerator, assert_equal

accelerate = pytest.importorskip("accelerate")
LIGHT = replace(SMALL, weight=0.05)


@pytest.fixture(autouse=True)
def _fresh_state() -> Iterator[None]:
    yield
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


class Host:
    """A generator that a fixed critic leads, with everything prepared by accelerate."""

    def __init__(self, data: GZSLData, precision: str = "no", accumulate: int = 1) -> None:
        torch.manual_seed(7)
        self.accelerator = accelerate.Accelerator(
            cpu=True, mixed_precision=precision, gradient_accumulation_steps=accumulate
        )
        self.data = data
        net = NoticingGenerator(5, 12)
        self.critic = nn.Linear(12, 1).requires_grad_(False)
        loader = DataLoader(
            TensorDataset(data.train_features, data.train_labels), batch_size=16, shuffle=True
        )
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        prepared = self.accelerator.prepare(net, optimizer, loader, schedule)
        self.net, self.optimizer, self.loader, self.schedule = prepared
        self.norms: list[float] = []

    def attach(self, mode: str, weight: float = LIGHT.weight) -> D3:
        return d3_plugin.attach(
            generator=self.net,
            optimizer=self.optimizer,
            data=self.data,
            settings=replace(LIGHT, weight=weight),
            mode=mode,
        )

    def run(self, d3: D3 | None = None, clip: float | None = None) -> None:
        """An epoch of five batches; ``d3`` in the explicit form."""
        for features, labels in self.loader:
            with self.accelerator.accumulate(self.net):
                att = self.data.attributes[labels]
                loss = (self.net(torch.randn_like(att), att) - features).abs().mean()
                loss = loss - self.critic(self.net(torch.randn_like(att), att)).mean()
                if d3 is not None:
                    loss = loss + d3.loss(features=features, labels=labels)
                self.accelerator.backward(loss)
                if clip and self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.net.parameters(), clip)
                    self.norms.append(norm(self.net))
                self.optimizer.step()
                self.schedule.step()
                self.optimizer.zero_grad()

    def state(self) -> dict[str, Tensor]:
        state = self.net.state_dict() | {"stream": torch.get_rng_state()}
        return {name: value.clone() for name, value in state.items()}


def norm(net: nn.Module) -> float:
    return torch.cat([p.grad.flatten() for p in net.parameters()]).norm().item()


@pytest.mark.parametrize("mode", ["loss", "hook"])
@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("accumulate", [1, 5])
def test_both_forms(toy_data: GZSLData, mode: str, precision: str, accumulate: int) -> None:
    """In loss form D³ steps with every batch, in hook mode with the optimiser."""
    alone = Host(toy_data, precision, accumulate)
    alone.run()
    states = {}
    for weight in (0.0, LIGHT.weight):
        host = Host(toy_data, precision, accumulate)
        d3 = host.attach(mode, weight)
        host.run(d3 if mode == "loss" else None)
        assert d3.steps == (5 if mode == "loss" else 5 // accumulate)
        states[weight] = host.state()
    assert_equal(alone.state(), states[0.0])
    assert not torch.equal(states[0.0]["hidden.weight"], states[LIGHT.weight]["hidden.weight"])
    assert 0 < d3.values["gradient_share"] < 1
    assert d3.evaluate().scores.shape == (1, 44, 6)


def test_the_clip_holds_in_loss_form(toy_data: GZSLData) -> None:
    host = Host(toy_data, accumulate=5)
    host.run(host.attach("loss"), clip=1e-3)
    assert host.norms == [pytest.approx(1e-3, rel=1e-3)]
