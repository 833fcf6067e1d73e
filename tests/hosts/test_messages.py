"""Hosts that ``attach`` cannot take as they are: the message says what to write instead."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from d3_plugin import HostError, InputError, attach
from d3_plugin.data import GZSLData
from tests.toys import PlainGenerator, parts_of

OUTPUTS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "tuple": (lambda rows: (rows, rows.mean()), "got a tuple"),
    "dict": (lambda rows: {"features": rows}, "got a dict"),
    "image": (lambda rows: rows.reshape(-1, 3, 2, 2), "(2, 3, 2, 2)"),
}


@pytest.mark.parametrize("form", OUTPUTS)
def test_another_output_than_rows(toy_data: GZSLData, form: str) -> None:
    change, found = OUTPUTS[form]

    class Net(PlainGenerator):
        def forward(self, noise: Tensor, attributes: Tensor) -> Any:
            return change(super().forward(noise, attributes))

    net = Net()
    with pytest.raises(HostError, match=re.escape(found) + ".*synthesize=lambda class_ids"):
        attach(**parts_of(net, toy_data))
    take = {"tuple": lambda out: out[0], "dict": lambda out: out["features"]}
    attach(
        **parts_of(net, toy_data),
        synthesize=lambda ids, att: take.get(form, lambda out: out.flatten(1))(
            net(torch.randn_like(att), att)
        ),
    ).loss().backward()


@pytest.mark.parametrize("shape", [(1, 12), (12, 1, 1)])
def test_rows_with_dimensions_of_length_1(toy_data: GZSLData, shape: tuple[int, ...]) -> None:
    class Net(PlainGenerator):
        def forward(self, noise: Tensor, attributes: Tensor) -> Tensor:
            return super().forward(noise, attributes).reshape(-1, *shape)

    attach(**parts_of(Net(), toy_data)).loss().backward()


class VAE(nn.Module):
    """``forward(features, attributes)`` encodes and decodes; synthesis is the decoder alone."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(12 + 5, 2 * 4)
        self.decoder = nn.Linear(4 + 5, 12)

    def decode(self, latent: Tensor, att: Tensor) -> Tensor:
        return self.decoder(torch.cat([latent, att], dim=1))

    def forward(self, x: Tensor, att: Tensor) -> Tensor:
        mean, log_var = self.encode(torch.cat([x, att], dim=1)).chunk(2, dim=1)
        return self.decode(mean + torch.randn_like(mean) * (0.5 * log_var).exp(), att)


def test_noise_does_not_go_through_an_encoder(toy_data: GZSLData) -> None:
    vae = VAE()
    with pytest.raises(HostError, match=r"12 wide, as the features.*decoder.*noise_dim=12"):
        attach(**parts_of(vae, toy_data))
    attach(**parts_of(vae, toy_data), noise_dim=12)  # who says so means it
    attach(
        **parts_of(vae, toy_data),
        synthesize=lambda ids, att: vae.decode(torch.randn(len(att), 4), att),
    ).loss().backward()
    assert vae.encode.weight.grad is None


def test_networks_in_a_plain_dict(toy_data: GZSLData) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nets = {"g": PlainGenerator()}

    model, net = Model(), PlainGenerator()
    parts = parts_of(net, toy_data)
    for generator in (model, {"g": net}, [net]):
        with pytest.raises(HostError, match=r"plain dict.*as generator=.*modules=.*ModuleDict"):
            attach(**(parts | {"generator": generator}))
    attach(**parts, modules={"other": nn.Linear(2, 2)})
    with pytest.raises(InputError, match=r"modules\[0\] must be Module, got 'netF'"):
        attach(**parts, modules=["netF"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_generator_of_another_dtype(toy_data: GZSLData, dtype: torch.dtype) -> None:
    net = PlainGenerator().to(dtype)
    d3 = attach(**parts_of(net, toy_data))
    d3.loss().backward()
    assert net.out.weight.grad.dtype == dtype
    assert net.out.weight.grad.abs().max() > 0
    d3.evaluate()


def test_torch_func(toy_data: GZSLData) -> None:
    net = PlainGenerator()
    d3 = attach(**parts_of(net, toy_data))
    with pytest.raises(HostError, match=r"torch\.func.*backward"):
        torch.func.grad(lambda scale: d3.loss() * scale)(torch.ones(()))
    d3.loss().backward()


def test_averaged_model(toy_data: GZSLData) -> None:
    parts = parts_of(PlainGenerator(), toy_data)
    averaged = AveragedModel(parts["generator"])
    with pytest.raises(HostError, match=r"attach to the generator.*evaluate\(generator="):
        attach(**(parts | {"generator": averaged}))
