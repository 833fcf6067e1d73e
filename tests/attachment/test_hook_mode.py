"""``mode="hook"``: the loop stays as it is."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import d3_plugin
from d3_plugin import HostError, InputError
from d3_plugin.data import GZSLData
from tests.toys import SMALL, PlainGenerator, ScriptHost, assert_equal, attach


def test_detached_hook_mode_is_the_baseline_again(toy_data: GZSLData) -> None:
    alone = ScriptHost(toy_data)
    alone.run(2)
    alone_state = alone.state()
    beside = ScriptHost(toy_data)
    attach(beside, mode="hook").detach()
    beside.run(2)
    assert_equal(alone_state, beside.state())


def test_only_every_so_many_steps_of_the_optimizer(toy_data: GZSLData) -> None:
    alone, beside = ScriptHost(toy_data), ScriptHost(toy_data)
    d3 = attach(beside, mode="hook")
    d3.host.interval = 3
    made = []
    for _ in range(7):
        beside.run(1)
        made.append(d3.steps)
    assert made == [1, 1, 1, 2, 2, 2, 3]
    other = attach(alone, mode="hook")
    other.load_state_dict(d3.state_dict())
    other.host.interval = 3
    alone.run(1)
    assert other.steps == 3, "the eighth step goes on counting, 7 + 1"
    alone.run(2)
    assert other.steps == 4


def test_explicit_form_and_hook_mode_give_the_same_gradient(toy_data: GZSLData) -> None:
    gradients = []
    for mode in ("loss", "hook"):
        host = ScriptHost(toy_data)
        d3 = attach(host, mode=mode)
        host.critic_step()
        loss = host.generator_loss()
        if mode == "loss":
            loss = loss + d3.loss()
        loss.backward()
        seen: list[torch.Tensor] = []
        host.optimizer_g.register_step_pre_hook(
            lambda o, a, k, seen=seen: seen.extend(p.grad for p in o.param_groups[0]["params"])
        )
        host.optimizer_g.step()
        gradients.append(seen)
    for explicit, hooked in zip(*gradients, strict=True):
        torch.testing.assert_close(explicit, hooked, rtol=1e-6, atol=1e-9)


def test_hook_mode_leaves_other_gradients_alone(host: ScriptHost) -> None:
    attach(host, mode="hook")
    host.critic_step()
    critic_grad = host.net_d.weight.grad.clone()
    host.generator_loss().backward()
    host.optimizer_g.step()
    assert torch.equal(critic_grad, host.net_d.weight.grad)


def test_hook_mode_refuses_what_would_go_wrong_silently(host: ScriptHost) -> None:
    d3 = attach(host, mode="hook")
    with pytest.raises(HostError, match=r"closure.*Lightning.*loss"):
        host.optimizer_g.step(lambda: host.generator_loss())
    with pytest.raises(HostError, match="hook"):
        d3.loss()
    with pytest.raises(HostError, match="detach"):
        attach(host, mode="hook")
    d3.detach()
    attach(host, mode="hook")


def test_modules_that_the_optimizer_steps_get_their_gradient(toy_data: GZSLData) -> None:
    """A semantic module before the generator, in one optimiser with it or in one of its own."""
    generator, semantic = PlainGenerator(), nn.Linear(5, 5)
    both = torch.optim.SGD([*generator.parameters(), *semantic.parameters()], lr=0.1)

    def run(mode: str, optimizer: torch.optim.Optimizer) -> torch.Tensor | None:
        generator.zero_grad()
        semantic.zero_grad()
        d3 = d3_plugin.attach(
            generator=generator,
            optimizer=optimizer,
            data=toy_data,
            settings=SMALL,
            mode=mode,
            synthesize=lambda ids, att: generator(torch.randn_like(att), semantic(att)),
            modules={"semantic": semantic},
        )
        before = copy.deepcopy((generator.state_dict(), semantic.state_dict()))
        if mode == "loss":
            d3.loss().backward()
        else:
            optimizer.step()
        d3.detach()
        generator.load_state_dict(before[0])
        semantic.load_state_dict(before[1])
        return semantic.weight.grad

    expected = run("loss", both)
    assert expected.abs().max() > 0
    torch.testing.assert_close(run("hook", both), expected)
    assert run("hook", torch.optim.SGD(generator.parameters(), lr=0.1)) is None


class Wrapped(torch.optim.Optimizer):
    """As accelerate wraps an optimiser: one by its class, without the state of one."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def step(self) -> None:
        self.optimizer.step()


def test_a_wrapped_optimizer(host: ScriptHost) -> None:
    d3 = attach(host, mode="hook", optimizer=Wrapped(host.optimizer_g))
    host.run(1)
    assert d3.steps == 1
    with pytest.raises(HostError, match="detach"):
        attach(host, mode="hook")


def test_a_failed_attach_does_not_block_the_next(host: ScriptHost) -> None:
    register = host.optimizer_g.register_step_pre_hook
    host.optimizer_g.register_step_pre_hook = None  # as in a wrapper that nobody knows
    with pytest.raises(TypeError):
        attach(host, mode="hook")
    host.optimizer_g.register_step_pre_hook = register
    attach(host, mode="hook")


def test_several_optimizers_are_for_the_loss_form(host: ScriptHost) -> None:
    halves = (host.net_g.hidden, host.net_g.norm), (host.net_g.out,)
    several = [torch.optim.Adam([p for m in half for p in m.parameters()]) for half in halves]
    attach(host, optimizer=several).loss().backward()
    with pytest.raises(HostError, match=r"hidden\.weight.*list"):
        attach(host, optimizer=several[1:])
    with pytest.raises(HostError, match=r"single optimizer.*mode=.loss"):
        attach(host, optimizer=several, mode="hook")
    with pytest.raises(InputError, match=r"optimizer\[2\] must be Optimizer, got Linear"):
        attach(host, optimizer=[*several, host.net_d])


def test_grad_scaler_hook_mode_is_refused(host: ScriptHost) -> None:
    attach(host, mode="hook")
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(host.generator_loss()).backward()
    with pytest.raises(HostError, match="GradScaler"):
        scaler.step(host.optimizer_g)
