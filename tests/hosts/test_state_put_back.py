"""At weight 0 the host ends bit-identical, whatever state its generator keeps and wherever."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import d3_plugin
from d3_plugin import D3Settings, D3Warning, HostError
from d3_plugin.data import GZSLData

ZERO = D3Settings(embedding_dim=8, teacher_epochs=1, synthetic_rows=6, real_rows=6, weight=0.0)


class Plain(nn.Module):
    def __init__(self, attributes: int = 5, features: int = 12) -> None:
        super().__init__()
        self.first = nn.Linear(2 * attributes, 12)
        self.last = nn.Linear(12, features)
        self.prepare()

    def prepare(self) -> None:
        """What this idiom keeps."""

    def change(self, x: Tensor) -> Tensor:
        return x

    def forward(self, noise: Tensor, att: Tensor) -> Tensor:
        return self.last(self.change(torch.tanh(self.first(torch.cat([noise, att], 1)))))


class ReboundBuffer(Plain):
    def prepare(self) -> None:
        self.register_buffer("ema", torch.zeros(12))

    def change(self, x: Tensor) -> Tensor:
        self.ema = 0.9 * self.ema + 0.1 * x.detach().mean(0)
        return x + self.ema


class BufferInPlace(ReboundBuffer):
    def change(self, x: Tensor) -> Tensor:
        self.ema.mul_(0.9).add_(0.1 * x.detach().mean(0))
        return x + self.ema.clone()


class BufferNoneAtFirst(ReboundBuffer):
    def prepare(self) -> None:
        self.register_buffer("ema", None)

    def change(self, x: Tensor) -> Tensor:
        own = x.detach().mean(0)
        self.ema = own if self.ema is None else 0.9 * self.ema + 0.1 * own
        return x + self.ema


class BufferAddedLater(BufferNoneAtFirst):
    def prepare(self) -> None:
        pass

    def change(self, x: Tensor) -> Tensor:
        if "ema" not in self._buffers:
            self.register_buffer("ema", x.detach().mean(0))
        return x + self.ema


class AverageParameter(Plain):
    def prepare(self) -> None:
        self.ema = nn.Parameter(torch.zeros(12), requires_grad=False)

    def change(self, x: Tensor) -> Tensor:
        self.ema.mul_(0.9).add_(0.1 * x.detach().mean(0))
        return x + self.ema.clone()


class TensorAttribute(Plain):
    def prepare(self) -> None:
        self.ema = torch.zeros(12)

    def change(self, x: Tensor) -> Tensor:
        self.ema = 0.9 * self.ema + 0.1 * x.detach().mean(0)
        return x + self.ema


class TensorAttributeInPlace(TensorAttribute):
    change = BufferInPlace.change


class AttributeAddedLater(Plain):
    def change(self, x: Tensor) -> Tensor:
        if not hasattr(self, "start"):
            self.start = x.detach().mean().item()
        return x + self.start


class Counter(Plain):
    def prepare(self) -> None:
        self.calls = 0

    def change(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + torch.randn_like(x) / self.calls


class CounterOfAPart(Plain):
    def prepare(self) -> None:
        self.part = nn.Module()
        self.part.calls = 0

    def change(self, x: Tensor) -> Tensor:
        self.part.calls += 1
        return x / self.part.calls


class TorchGenerator(Plain):
    def prepare(self) -> None:
        self.source = torch.Generator().manual_seed(0)

    def change(self, x: Tensor) -> Tensor:
        return x + torch.randn(x.shape, generator=self.source)


class NumpyGenerator(Plain):
    def prepare(self) -> None:
        self.source = np.random.default_rng(0)

    def change(self, x: Tensor) -> Tensor:
        return x + float(self.source.standard_normal())


class NumpyRandomState(NumpyGenerator):
    def prepare(self) -> None:
        self.source = np.random.RandomState(0)


class PythonRandom(Plain):
    def prepare(self) -> None:
        self.source = random.Random(0)

    def change(self, x: Tensor) -> Tensor:
        return x + self.source.gauss(0, 1)


class GlobalNormals(Plain):
    """An odd number of NumPy's normal numbers leaves one waiting in the global stream."""

    def change(self, x: Tensor) -> Tensor:
        return x + float(np.random.randn()) + random.gauss(0, 1)  # noqa: NPY002


class BatchNorm(Plain):
    def prepare(self) -> None:
        self.norm = nn.BatchNorm1d(12)

    def change(self, x: Tensor) -> Tensor:
        return self.norm(x)


class SpectralNorm(Plain):
    def prepare(self) -> None:
        self.last = nn.utils.parametrizations.spectral_norm(self.last)


IDIOMS = [
    ReboundBuffer,
    BufferInPlace,
    BufferNoneAtFirst,
    BufferAddedLater,
    AverageParameter,
    TensorAttribute,
    TensorAttributeInPlace,
    AttributeAddedLater,
    Counter,
    CounterOfAPart,
    TorchGenerator,
    NumpyGenerator,
    NumpyRandomState,
    PythonRandom,
    GlobalNormals,
    BatchNorm,
    SpectralNorm,
]


def losses_and_end(
    make: Callable[[], nn.Module], data: GZSLData, mode: str | None
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Of a short training, with D³ at weight 0 where a mode is given."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    net = make()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    d3 = None
    if mode is not None:
        d3 = d3_plugin.attach(
            generator=net, optimizer=optimizer, data=data, settings=ZERO, mode=mode
        )
    losses = []
    for _ in range(4):
        rows = torch.randint(len(data.train_labels), (8,))
        att = data.attributes[data.train_labels[rows]]
        loss = (net(torch.randn_like(att), att) - data.train_features[rows]).square().mean()
        if mode == "loss":
            loss = loss + d3.loss(data.train_features[rows], data.train_labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    streams = {"torch": torch.rand(3), "numpy": torch.tensor(np.random.randn(3))}  # noqa: NPY002
    streams["python"] = torch.tensor([random.gauss(0, 1), random.random()])
    return losses, {**copy.deepcopy(net.state_dict()), **streams}


@pytest.mark.parametrize("mode", ["loss", "hook"])
@pytest.mark.parametrize("idiom", IDIOMS, ids=lambda idiom: idiom.__name__)
def test_weight_zero_leaves_the_host_bit_identical(
    idiom: type[Plain], mode: str, toy_data: GZSLData
) -> None:
    alone, end = losses_and_end(idiom, toy_data, None)
    beside, beside_end = losses_and_end(idiom, toy_data, mode)
    assert [loss.item() for loss in alone] == [loss.item() for loss in beside]
    assert end.keys() == beside_end.keys()
    assert [name for name in end if not torch.equal(end[name], beside_end[name])] == []


class GrowingList(Plain):
    def prepare(self) -> None:
        self.seen = []

    def change(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return x / len(self.seen)


def test_what_cannot_be_put_back_is_named_at_attach(toy_data: GZSLData) -> None:
    net = GrowingList()
    optimizer = torch.optim.Adam(net.parameters())
    with pytest.warns(D3Warning, match=r"GrowingList\.seen in place"):
        d3_plugin.attach(generator=net, optimizer=optimizer, data=toy_data, settings=ZERO)


@pytest.mark.parametrize("layer", [nn.LazyLinear(12), nn.LazyBatchNorm1d()])
def test_lazy_layers_are_refused_with_advice(layer: nn.Module, toy_data: GZSLData) -> None:
    net = Plain()
    net.lazy = layer
    optimizer = torch.optim.Adam(net.first.parameters())
    with pytest.raises(HostError, match="lazy layers: call it once"):
        d3_plugin.attach(generator=net, optimizer=optimizer, data=toy_data, settings=ZERO)
