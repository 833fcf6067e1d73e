"""Random streams, buffers and modes come back as they were."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
import torch
from torch import nn

from d3_plugin.hosts.isolation import RandomStream
from d3_plugin.hosts.module_state import ModuleState, eval_mode


def draw() -> list[float]:
    return [torch.rand(()).item(), np.random.rand(), random.random()]  # noqa: NPY002


def test_stream_is_separate_and_goes_on() -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    outside = [draw(), draw()]
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    stream = RandomStream(5, torch.device("cpu"))
    with stream:
        first = draw()
    between = draw()
    with stream:
        second = draw()
    assert [between, draw()] == outside
    assert first != second
    again = RandomStream(5, torch.device("cpu"))
    with again:
        assert [draw(), draw()] == [first, second]


def test_stream_state_survives_a_file() -> None:
    stream = RandomStream(5, torch.device("cpu"))
    with stream:
        draw()
    buffer = io.BytesIO()
    torch.save(stream.state_dict(), buffer)
    with stream:
        expected = draw()
    buffer.seek(0)
    other = RandomStream(6, torch.device("cpu"))
    other.load_state_dict(torch.load(buffer, weights_only=True))
    with other:
        assert draw() == expected


def test_stream_is_restored_after_an_error() -> None:
    stream = RandomStream(5, torch.device("cpu"))
    before = torch.get_rng_state()

    def fail() -> None:
        with stream:
            torch.rand(3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.equal(before, torch.get_rng_state())


def test_buffers_are_kept_and_the_graph_still_runs() -> None:
    net = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4)), nn.BatchNorm1d(4))
    before = {k: v.clone() for k, v in net.named_buffers()}
    with ModuleState([net]):
        out = net(torch.randn(5, 3))
        moved = [k for k, v in net.named_buffers() if not torch.equal(v, before[k])]
    assert "1.running_mean" in moved, "the test must see buffers move"
    assert all(torch.equal(v, before[k]) for k, v in net.named_buffers())
    out.sum().backward()


def test_eval_mode_restores_each_module() -> None:
    net = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Linear(2, 2)))
    net[1][0].eval()
    modes = [m.training for m in net.modules()]
    with eval_mode([net]):
        assert not any(m.training for m in net.modules())
    assert [m.training for m in net.modules()] == modes
