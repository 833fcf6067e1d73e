"""Generators that keep state, each in another way, and some that keep it where D³ cannot see."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


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


class LegacySpectralNorm(Plain):
    """Forward pre-hooks that bind the weight anew in every call."""

    def prepare(self) -> None:
        self.last = nn.utils.spectral_norm(self.last)


class WeightNorm(Plain):
    def prepare(self) -> None:
        self.last = nn.utils.parametrizations.weight_norm(self.last)


class LegacyWeightNorm(Plain):
    def prepare(self) -> None:
        self.last = nn.utils.weight_norm(self.last)


class NumpyArrayInPlace(Plain):
    def prepare(self) -> None:
        self.ema = np.zeros(12, dtype=np.float32)

    def change(self, x: Tensor) -> Tensor:
        self.ema += x.detach().mean(0).numpy()
        return x + torch.from_numpy(self.ema.copy())


class LayerMadeInForward(Plain):
    def change(self, x: Tensor) -> Tensor:
        if not hasattr(self, "late"):
            self.late = nn.Linear(12, 12)
        return self.late(x)


class ParameterMadeInForward(Plain):
    def change(self, x: Tensor) -> Tensor:
        if not hasattr(self, "scale"):
            self.scale = nn.Parameter(torch.rand(12))
        return x * self.scale


class LastOutputKept(Plain):
    """The next call starts from it, with its graph cut."""

    def change(self, x: Tensor) -> Tensor:
        before = getattr(self, "output", None)
        self.output = x
        return x if before is None else x + 0.1 * before.detach().mean(0)


class OwnHook(Plain):
    """A forward hook of the host's, on a part, which counts in the part."""

    def prepare(self) -> None:
        self.first = nn.Sequential(nn.Linear(10, 12))
        self.first.calls = 0
        self.first.register_forward_hook(self.count)

    @staticmethod
    def count(module: nn.Module, args: object, output: Tensor) -> Tensor:
        module.calls += 1
        return output / module.calls


class SharedPart(Plain):
    """One batch norm at two places."""

    def prepare(self) -> None:
        self.norm = nn.BatchNorm1d(12)
        self.again = nn.Sequential(self.norm)

    def change(self, x: Tensor) -> Tensor:
        return self.again(self.norm(x))


class ModesToggled(Plain):
    """Each call leaves the other mode behind."""

    def prepare(self) -> None:
        self.drop = nn.Dropout(0.5)
        self.other = nn.Linear(12, 12)

    def change(self, x: Tensor) -> Tensor:
        out = self.drop(self.other(x))
        self.drop.train(not self.drop.training)
        return out


class Evaluating(BatchNorm):
    def prepare(self) -> None:
        super().prepare()
        self.eval()


class InDataParallel(BatchNorm):
    def __new__(cls) -> nn.Module:
        return nn.DataParallel(BatchNorm())


class ReseedingItself(Plain):
    def change(self, x: Tensor) -> Tensor:
        torch.manual_seed(5)
        random.seed(5)
        return x + torch.randn_like(x)


class ThroughAnother(BatchNorm):
    """Synthesis also runs through a network that only its own function names."""

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "hidden", nn.Sequential(nn.Linear(12, 12), nn.BatchNorm1d(12)))

    def forward(self, noise: Tensor, att: Tensor) -> Tensor:
        return self.hidden(super().forward(noise, att))

    def state_dict(self, **options: Any) -> dict[str, Any]:
        hidden = {f"hidden.{k}": v for k, v in self.hidden.state_dict().items()}
        return super().state_dict(**options) | hidden


class GrowingList(Plain):
    def prepare(self) -> None:
        self.seen = []

    def change(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return x / len(self.seen)


class CounterOfTheClass(Plain):
    calls = 0

    def change(self, x: Tensor) -> Tensor:
        type(self).calls += 1
        return x / self.calls


SOURCE = np.random.default_rng(0)


class GlobalGenerator(Plain):
    def change(self, x: Tensor) -> Tensor:
        return x + float(SOURCE.standard_normal())


IDIOMS: list[type[Plain]] = [
    ThroughAnother,
    LegacySpectralNorm,
    WeightNorm,
    LegacyWeightNorm,
    NumpyArrayInPlace,
    LayerMadeInForward,
    ParameterMadeInForward,
    LastOutputKept,
    OwnHook,
    SharedPart,
    ModesToggled,
    Evaluating,
    InDataParallel,
    ReseedingItself,
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
