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
from tests.hosts.idioms import (
    IDIOMS,
    CounterOfTheClass,
    GlobalGenerator,
    GrowingList,
    Plain,
)

ZERO = D3Settings(embedding_dim=8, teacher_epochs=1, synthetic_rows=6, real_rows=6, weight=0.0)


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
    flags = torch.tensor([p.requires_grad for p in net.parameters()])
    modes = torch.tensor([m.training for m in net.modules()])
    streams = {
        "flags": flags,
        "modes": modes,
        "torch": torch.rand(3),
        "numpy": torch.tensor(np.random.randn(3)),  # noqa: NPY002
    }
    streams["python"] = torch.tensor([random.gauss(0, 1), random.random()])
    return losses, {**copy.deepcopy(net.state_dict()), **streams}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`:FutureWarning")
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


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (GrowingList, r"GrowingList\.seen,"),
        (CounterOfTheClass, "something outside its modules"),
        (GlobalGenerator, "something outside its modules"),
    ],
)
def test_what_cannot_be_restored_is_named_at_attach(
    toy_data: GZSLData, kind: type[Plain], named: str
) -> None:
    net = kind()
    optimizer = torch.optim.Adam(net.parameters())
    with pytest.warns(D3Warning, match=f"changes {named}.*cannot restore"):
        d3_plugin.attach(generator=net, optimizer=optimizer, data=toy_data, settings=ZERO)


def test_modules_that_synthesis_runs_through_are_found(toy_data: GZSLData) -> None:
    net, other = Plain(), nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Dropout(0.5))
    optimizer = torch.optim.Adam(net.parameters())
    before = {name: value.clone() for name, value in other.state_dict().items()}
    d3 = d3_plugin.attach(
        generator=net,
        optimizer=optimizer,
        data=toy_data,
        settings=ZERO,
        synthesize=lambda ids, att: net(torch.randn_like(att), other(att)),
    )
    d3.loss()
    assert d3.host.modules == (net, other)
    assert all(torch.equal(before[name], value) for name, value in other.state_dict().items())


@pytest.mark.parametrize("layer", [nn.LazyLinear(12), nn.LazyBatchNorm1d()])
def test_lazy_layers_are_refused_with_advice(layer: nn.Module, toy_data: GZSLData) -> None:
    net = Plain()
    net.lazy = layer
    optimizer = torch.optim.Adam(net.first.parameters())
    with pytest.raises(HostError, match="lazy layers: call it once"):
        d3_plugin.attach(generator=net, optimizer=optimizer, data=toy_data, settings=ZERO)


def test_the_default_leaves_the_generator_alone() -> None:
    """A weight of 0.01 spoilt the training of a flow with a small loss."""
    assert D3Settings().weight == 0
