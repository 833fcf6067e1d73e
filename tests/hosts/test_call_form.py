"""Which way a generator wants its noise and attributes, and how wide the noise is."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor, nn

import d3_plugin
from d3_plugin import D3Settings, HostError
from d3_plugin.data import GZSLData
from d3_plugin.hosts.call_form import CONDITION_NAMES, call_generator, noise_width

NOISE, ATT = torch.zeros(3, 2), torch.ones(3, 4)


def noise_first(noise: Tensor, att: Tensor) -> None: ...
def by_name(z: Tensor, a1: float | None = None, c: Tensor | None = None) -> None: ...
def keyword_only(z: Tensor, *, condition: Tensor) -> None: ...
def att_first(att: Tensor, noise: Tensor) -> None: ...
def unnamed(x: Tensor, s: Tensor) -> None: ...
def anything(*args: Tensor) -> None: ...


@pytest.mark.parametrize(
    "signature", [noise_first, by_name, keyword_only, att_first, unnamed, anything]
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_attributes_arrive(signature: object, wrapped: bool) -> None:
    class Net(nn.Module):
        def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
            given = inspect.signature(signature).bind(*args, **kwargs).arguments
            flat = given.get("args", list(given.values()))
            names = list(given)
            at = next((i for i, n in enumerate(names) if n in CONDITION_NAMES), 1)
            assert [t.shape[1] for t in flat] == ([4, 2] if at == 0 else [2, 4])
            return flat[at]

    net = Net()
    if signature is not anything:
        Net.forward.__signature__ = inspect.Signature(  # as if it had been written so
            [
                inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY),
                *inspect.signature(signature).parameters.values(),
            ]
        )
    got = call_generator(nn.DataParallel(net) if wrapped else net, NOISE, ATT)
    assert torch.equal(got, ATT)


def test_scripted_and_compiled_generators() -> None:
    class Net(nn.Module):
        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return c * 2

    assert torch.equal(call_generator(torch.jit.script(Net()), NOISE, ATT), ATT * 2)
    compiled = torch.compile(Net(), backend="eager")
    assert torch.equal(call_generator(compiled, NOISE, ATT), ATT * 2)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([nn.Linear(9, 3)], 5),  # CE-GZSL on FLO: noise of another width than the attributes
        ([nn.Linear(8, 3), nn.Linear(100, 3)], 4),
        ([nn.Linear(4, 3)], 4),  # attributes embedded first: nothing is left for noise
        ([nn.Linear(2, 3)], 4),
        ([nn.Conv1d(1, 1, 1)], 4),
        ([nn.Sequential(nn.ReLU(), nn.Linear(7, 3))], 3),
    ],
)
def test_noise_width(layers: list[nn.Module], expected: int) -> None:
    assert noise_width(nn.Sequential(*layers), 4) == expected
    assert noise_width(nn.DataParallel(nn.Sequential(*layers)), 4) == expected


class Narrow(nn.Module):
    """7 wide noise beside 5 attributes, taken by name."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(12, 12)

    def forward(self, z: Tensor, a1: None = None, c: Tensor | None = None) -> Tensor:
        return self.out(torch.cat([z, c], dim=1))


def attach(net: nn.Module, data: GZSLData, **options: object) -> d3_plugin.D3:
    return d3_plugin.attach(
        generator=net,
        optimizer=torch.optim.Adam(net.parameters()),
        data=data,
        settings=D3Settings(embedding_dim=8, teacher_epochs=2),
        **options,
    )


def test_attach_needs_no_word_about_either(toy_data: GZSLData) -> None:
    net = Narrow()
    attach(net, toy_data).loss().backward()
    assert net.out.weight.grad[:, :7].abs().max() > 0
    with pytest.raises(HostError, match=r"noise \(2, 5\).*noise_dim="):
        attach(net, toy_data, noise_dim=5)


def test_generator_that_no_rule_knows(toy_data: GZSLData) -> None:
    class OneTensor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(10, 12)

        def forward(self, both: Tensor) -> Tensor:
            return self.out(both)

    net = OneTensor()
    with pytest.raises(HostError, match=r"noise \(2, 5\), attributes \(2, 5\).*synthesize="):
        attach(net, toy_data)
    d3 = attach(
        net,
        toy_data,
        synthesize=lambda ids, att: net(torch.cat([torch.randn(len(att), 5), att], dim=1)),
    )
    d3.loss().backward()
    assert net.out.weight.grad.abs().max() > 0
