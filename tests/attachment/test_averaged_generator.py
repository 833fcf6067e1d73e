"""``evaluate(generator=...)``: another copy's weights synthesise, and the host's come back."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from d3_plugin import D3, HostError
from d3_plugin.data import GZSLData
from tests.toys import PlainGenerator, ScriptHost, assert_equal, attach


def trained(data: GZSLData) -> tuple[ScriptHost, D3, AveragedModel]:
    host = ScriptHost(data)
    d3 = attach(host)
    ema = AveragedModel(host.net_g, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for _ in range(10):
        host.run(1, d3)
        ema.update_parameters(host.net_g)
    return host, d3, ema


@pytest.mark.parametrize("closure", [False, True])
def test_the_average_is_scored(toy_data: GZSLData, closure: bool) -> None:
    """Also where a closure of the host's calls its own generator by name."""
    host, d3, ema = trained(toy_data)
    if closure:

        def synthesize(ids: Tensor, att: Tensor) -> Tensor:
            return host.net_g(torch.randn_like(att), att)

        state = d3.state_dict()
        d3 = attach(host, synthesize=synthesize)
        d3.load_state_dict(state)
    before, own = host.state(), d3.evaluate()
    averaged = d3.evaluate(generator=ema)
    assert_equal(before, host.state())
    assert (own.scores != averaged.scores).any()
    host.net_g.load_state_dict(ema.module.state_dict())
    assert (d3.evaluate().scores == averaged.scores).all()


def test_a_plain_copy_and_other_layers(toy_data: GZSLData) -> None:
    host, d3, _ = trained(toy_data)
    same = copy.deepcopy(host.net_g)
    assert (d3.evaluate(generator=same).scores == d3.evaluate().scores).all()
    with pytest.raises(HostError, match="same layers"):
        d3.evaluate(generator=PlainGenerator())


def test_an_average_is_put_back_after_an_error(toy_data: GZSLData) -> None:
    host, d3, ema = trained(toy_data)
    before = host.state()

    def fails(*_: object) -> nn.Module:
        raise ZeroDivisionError

    other = attach(host, train_classifier=fails)
    other.load_state_dict(d3.state_dict())
    with pytest.raises(ZeroDivisionError):
        other.evaluate(generator=ema)
    assert_equal(before, host.state())
