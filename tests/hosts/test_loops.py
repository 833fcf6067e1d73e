"""Training loops beyond one plain step: precision, accumulation, clipping, averages, closures."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from d3_plugin import HostError
from d3_plugin.data import GZSLData
from tests.toys import SMALL, WEIGHT_ZERO, NoticingGenerator, ScriptHost, assert_equal, attach


def gradients(net: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in net.parameters()]


def test_the_clip_holds_in_loss_form(host: ScriptHost) -> None:
    d3 = attach(host)
    (host.generator_loss() + d3.loss()).backward()
    clip_grad_norm_(host.net_g.parameters(), 1e-3)
    host.optimizer_g.step()
    total = torch.cat([g.flatten() for g in gradients(host.net_g)]).norm()
    assert total.item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("mode", ["loss", "hook"])
def test_bf16_autocast(toy_data: GZSLData, mode: str) -> None:
    host = ScriptHost(toy_data)
    d3 = attach(host, mode=mode)
    for _ in range(3):
        host.critic_step()
        with torch.autocast("cpu", torch.bfloat16):
            loss = host.generator_loss()
            if mode == "loss":
                loss = loss + d3.loss(host.input_res, host.input_label)
        loss.backward()
        host.optimizer_g.step()
    assert d3.steps == 3
    assert all(value.dtype == torch.float32 and value.isfinite() for value in d3.values.values())


@pytest.mark.filterwarnings("error:Using `torch.compile")
@pytest.mark.parametrize("mode", ["loss", "hook"])
def test_compiled_generator(toy_data: GZSLData, mode: str) -> None:
    """``aot_eager`` traces the backward pass too, which a second one would break."""
    torch.compiler.reset()
    host = ScriptHost(toy_data)
    net = host.net_g
    host.net_g = torch.compile(net, backend="aot_eager")
    d3 = attach(host, mode=mode)
    before = copy.deepcopy(net.state_dict())
    host.run(3, d3 if mode == "loss" else None)
    assert d3.steps == 3
    assert 0 < d3.values["gradient_share"] < 1
    assert not torch.equal(before["hidden.weight"], net.hidden.weight)
    assert d3.evaluate().scores.shape == (1, 44, 6)


@pytest.mark.parametrize("mode", ["loss", "hook"])
def test_accumulation(toy_data: GZSLData, mode: str) -> None:
    """Two batches a step: in loss form D³ joins each, in hook mode the step."""
    host = ScriptHost(toy_data)
    d3 = attach(host, mode=mode)
    for batch in range(6):
        host.sample()
        loss = -host.criticise(host.fake())
        if mode == "loss":
            loss = loss + d3.loss(host.input_res, host.input_label, update=batch % 2 == 1)
        (loss / 2).backward()
        if batch % 2:
            host.optimizer_g.step()
            host.net_g.zero_grad()
    assert d3.steps == 3


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimisation, after Foret et al. (ICLR 2021): climb, then step from there."""

    def __init__(self, parameters: Any, base: Callable[..., torch.optim.Optimizer]) -> None:
        super().__init__(parameters, {})
        self.base_optimizer = base(self.param_groups)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self) -> None:
        parameters = [p for g in self.param_groups for p in g["params"]]
        norm = torch.cat([p.grad.flatten() for p in parameters]).norm()
        self.moves = [(p, p.grad * 0.05 / norm) for p in parameters]
        for parameter, move in self.moves:
            parameter.add_(move)
        self.zero_grad()

    @torch.no_grad()
    def second_step(self) -> None:
        for parameter, move in self.moves:
            parameter.sub_(move)
        self.base_optimizer.step()
        self.zero_grad()


def test_two_step_optimizer(toy_data: GZSLData) -> None:
    host = ScriptHost(toy_data)
    host.optimizer_g = SAM(host.net_g.parameters(), torch.optim.Adam)
    d3 = attach(host)
    host.sample()
    for _ in range(3):
        for first in (True, False):
            extra = d3.loss(host.input_res, host.input_label, update=first)
            (host.generator_loss() + extra).backward()
            host.optimizer_g.first_step() if first else host.optimizer_g.second_step()
    assert d3.steps == 3


def test_two_step_optimizer_in_hook_mode(toy_data: GZSLData) -> None:
    """The step that counts is the base optimiser's."""
    host = ScriptHost(toy_data)
    host.optimizer_g = SAM(host.net_g.parameters(), torch.optim.Adam)
    d3 = attach(host, mode="hook", optimizer=host.optimizer_g.base_optimizer)
    for _ in range(3):
        for first in (True, False):
            host.generator_loss().backward()
            host.optimizer_g.first_step() if first else host.optimizer_g.second_step()
    assert d3.steps == 3


@pytest.mark.parametrize("mode", ["loss", "hook"])
def test_lbfgs(toy_data: GZSLData, mode: str) -> None:
    """One step of the student, then a closure that stays the same function."""
    host = ScriptHost(toy_data)
    host.net_g.eval()
    optimizer = torch.optim.LBFGS(
        host.net_g.parameters(), max_iter=5, line_search_fn="strong_wolfe"
    )
    d3 = attach(host, replace(SMALL, weight=0.01), mode=mode, optimizer=optimizer)
    host.sample()
    noise = torch.randn(8, 5)
    values: list[float] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        fake = host.net_g(noise, host.data.attributes[host.input_label])
        loss = (fake - host.input_res).pow(2).mean()
        if mode == "loss":
            loss = loss + d3.loss(host.input_res, host.input_label, update=False)
        loss.backward()
        values.append(loss.item())
        return loss

    if mode == "hook":
        with pytest.raises(HostError, match=r"LBFGS.*mode=.loss.*closure"):
            optimizer.step(closure)
        return
    for step in range(3):
        d3.loss(host.input_res, host.input_label)  # the student's step
        assert d3.steps == step + 1
        values.clear()
        optimizer.step(closure)
        assert d3.steps == step + 1
        assert min(values) < values[0]


def test_lbfgs_at_weight_zero(toy_data: GZSLData) -> None:
    states = []
    for beside in (False, True):
        host = ScriptHost(toy_data)
        optimizer = torch.optim.LBFGS(host.net_g.parameters(), max_iter=3)
        d3 = attach(host, WEIGHT_ZERO, optimizer=optimizer) if beside else None

        def closure(host: ScriptHost = host, d3: Any = d3) -> Tensor:
            loss = host.generator_loss()
            if d3 is not None:
                loss = loss + d3.loss(update=False)
            loss.backward()
            return loss

        optimizer.step(closure)
        states.append(host.state())
    assert_equal(*states)


def test_generator_of_mixed_precision(toy_data: GZSLData) -> None:
    """bf16 weights, and norms in float32."""

    class Half(NoticingGenerator):
        def forward(self, noise: Tensor, att: Tensor) -> Tensor:
            return super().forward(noise.bfloat16(), att.bfloat16())

    host = ScriptHost(toy_data)
    host.net_g = Half(5, 12).bfloat16()
    host.optimizer_g = torch.optim.SGD(host.net_g.parameters(), lr=0.1)
    d3 = attach(host)
    d3.loss().backward()
    assert host.net_g.hidden.weight.grad.abs().max() > 0
    assert 0 < d3.values["gradient_share"] <= 1


def test_grad_scaler_in_loss_form(toy_data: GZSLData) -> None:
    """What the optimiser gets is the same, and so is the share."""
    made = []
    for scale in (1.0, 1024.0):
        host = ScriptHost(toy_data)
        d3 = attach(host)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        host.critic_step()
        scaler.scale(host.generator_loss() + d3.loss()).backward()
        scaler.step(host.optimizer_g)
        scaler.update()
        made.append([*gradients(host.net_g), d3.values["gradient_share"]])
    for one, other in zip(*made, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-8)
