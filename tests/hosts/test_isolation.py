"""Random streams, buffers and modes come back as they were."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import d3_plugin
from d3_plugin.data import GZSLData
from d3_plugin.hosts.isolation import RandomStream, global_streams, set_global_streams
from d3_plugin.hosts.module_state import ModuleState, eval_mode
from tests.toys import PlainGenerator, parts_of


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


class Rebinding(nn.Module):
    """Its forward pass puts other memory into a buffer and an untrained parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.ones(2))
        self.average = nn.Parameter(torch.ones(2), requires_grad=False)

    def forward(self) -> None:
        self.mean.data = 2 * self.mean.data
        self.average.data = 3 * self.average.data


def test_values_are_kept_in_whatever_memory() -> None:
    net = Rebinding()
    with ModuleState([net]):
        net()
    assert [net.mean.tolist(), net.average.tolist()] == [[1, 1], [1, 1]]


class Growing(nn.Module):
    """Keeps a row of each forward pass, in a buffer."""

    def __init__(self, resize: bool) -> None:
        super().__init__()
        self.resize = resize
        self.register_buffer("rows", torch.zeros(1, 3))
        self.register_buffer("last", torch.zeros(1))

    def forward(self) -> None:
        self.last += 1
        if self.resize:
            self.rows.resize_(len(self.rows) + 1, 3)
        else:
            self.rows.data = torch.cat([self.rows, torch.ones(1, 3)])


@pytest.mark.parametrize("resize", [False, True])
def test_a_buffer_that_grows_has_its_size_again(resize: bool) -> None:
    net = Growing(resize)
    with ModuleState([net]):
        net()
    assert [net.rows.tolist(), net.last.tolist()] == [[[0, 0, 0]], [0]]


def test_eval_mode_restores_each_module() -> None:
    net = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Linear(2, 2)))
    net[1][0].eval()
    modes = [m.training for m in net.modules()]
    with eval_mode([net]):
        assert not any(m.training for m in net.modules())
    assert [m.training for m in net.modules()] == modes


class WithBuffer(nn.Module):
    """A generator with one more buffer or array, which it does not change."""

    def __init__(self, value: object) -> None:
        super().__init__()
        self.net = PlainGenerator()
        if isinstance(value, torch.Tensor):
            self.register_buffer("held", value)
        else:
            self.held = value

    def forward(self, noise: torch.Tensor, attributes: torch.Tensor) -> torch.Tensor:
        return self.net(noise, attributes)


def mapped(path: Path) -> np.ndarray:
    """An array in a file that is mapped read-only: writing to it ends the process."""
    np.save(path, np.arange(4.0))
    return np.load(path, mmap_mode="r")


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.parametrize(
    "make",
    [
        lambda path: torch.arange(3.0).expand(4, 3),
        lambda path: torch.zeros(()).expand(2, 2),
        lambda path: torch.zeros(0).expand(5, 0),
        lambda path: torch.from_numpy(mapped(path)),
        mapped,
        lambda path: np.broadcast_to(np.arange(3), (2, 3)),
        lambda path: torch.eye(2).to_sparse(),
        lambda path: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8),
        lambda path: torch.zeros(2, device="meta"),
        lambda path: torch.ones(2, dtype=torch.complex64),
    ],
    ids=["expanded", "number", "empty", "mapped", "array", "broadcast", "sparse", "quantised",
         "meta", "complex"],
)  # fmt: skip
def test_buffers_that_cannot_be_written_to(toy_data: GZSLData, tmp_path: Path, make: Any) -> None:
    net = WithBuffer(make(tmp_path / "held.npy"))
    d3 = d3_plugin.attach(**parts_of(net, toy_data))
    d3.loss().backward()
    d3.evaluate()


def test_a_buffer_made_in_inference_mode(toy_data: GZSLData) -> None:
    with torch.inference_mode():
        made = torch.ones(2)
    d3_plugin.attach(**parts_of(WithBuffer(made), toy_data)).loss().backward()


@pytest.mark.parametrize("kind", ["MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_global_streams_of_every_bit_generator(kind: str, elsewhere: bool) -> None:
    cpu, own = torch.device("cpu"), np.random.get_bit_generator()
    try:
        np.random.set_bit_generator(getattr(np.random, kind)(3))
        np.random.randn()  # noqa: NPY002 - a second normal number is waiting
        buffer = io.BytesIO()
        torch.save(global_streams(cpu), buffer)
        expected = [draw(), np.random.randn(3).tolist()]  # noqa: NPY002
        if elsewhere:
            np.random.set_bit_generator(np.random.MT19937(5))
        buffer.seek(0)
        set_global_streams(torch.load(buffer, weights_only=True), cpu)
        assert [draw(), np.random.randn(3).tolist()] == expected  # noqa: NPY002
    finally:
        np.random.set_bit_generator(own)


def test_a_name_in_a_state_is_no_attribute_of_numpy() -> None:
    states = global_streams(torch.device("cpu"))
    states["numpy"]["bit_generator"] = "seed"
    with pytest.raises(ValueError, match="index"):
        set_global_streams(states, torch.device("cpu"))
