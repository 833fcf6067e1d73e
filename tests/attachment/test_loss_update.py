"""``loss(update=False)``: the last draw again, without a step of the student."""

from __future__ import annotations

import pytest
import torch

from d3_plugin.data import GZSLData
from tests.toys import ScriptHost, assert_equal, attach


def test_same_draw_and_no_step(host: ScriptHost) -> None:
    host.net_g.eval()
    d3 = attach(host)
    first = d3.loss(update=False)
    assert torch.equal(first, d3.loss(update=False)), "before any step: what the first will draw"
    assert d3.steps == 0
    assert torch.equal(first, d3.loss())
    student = {k: v.clone() for k, v in d3.distiller.state_dict().items()}
    again = [d3.loss(update=False) for _ in range(3)]
    assert torch.equal(again[0], again[2])
    assert not torch.equal(again[0], first), "the student has moved on"
    assert_equal(student, d3.distiller.state_dict())
    assert d3.steps == 1
    grads = [torch.autograd.grad(value, host.net_g.out.parameters()) for value in again[:2]]
    for one, other in zip(*grads, strict=True):
        assert torch.equal(one, other)
        assert one.abs().max() > 0


@pytest.mark.parametrize("weight_zero", [False, True])
def test_repeats_leave_the_run_as_it_is(toy_data: GZSLData, weight_zero: bool) -> None:
    """With the host's own batch too, and the host's random streams stay."""
    states = []
    for repeats in (0, 2):
        host = ScriptHost(toy_data)
        d3 = attach(host)
        host.run(2, d3)
        for _ in range(repeats):
            d3.loss(host.input_res, host.input_label, update=False)
        host.run(2, d3)
        states.append(host.state() | d3.distiller.state_dict())
    assert_equal(*states)


def test_repeated_after_loading(toy_data: GZSLData) -> None:
    """A D³ that goes on from a state draws what its next step will draw."""
    host = ScriptHost(toy_data)
    host.net_g.eval()
    d3 = attach(host)
    d3.loss()
    other = attach(host)
    other.load_state_dict(d3.state_dict())
    assert torch.equal(other.loss(update=False), d3.loss())
