"""``mode="hook"``: the loop stays as it is."""

from __future__ import annotations

import pytest
import torch

from d3_plugin import HostError
from d3_plugin.data import GZSLData
from tests.toys import ScriptHost, assert_equal, attach


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
    with pytest.raises(HostError, match="closure"):
        host.optimizer_g.step(lambda: host.generator_loss())
    with pytest.raises(HostError, match="hook"):
        d3.loss()
    with pytest.raises(HostError, match="detach"):
        attach(host, mode="hook")
    d3.detach()
    attach(host, mode="hook")


def test_grad_scaler_hook_mode_is_refused(host: ScriptHost) -> None:
    attach(host, mode="hook")
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(host.generator_loss()).backward()
    with pytest.raises(HostError, match="GradScaler"):
        scaler.step(host.optimizer_g)
