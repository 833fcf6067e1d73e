"""D³ calls the generator as the loop does, in training, evaluation and in ``check()``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import d3_plugin
from d3_plugin import D3, D3Warning, HostError
from d3_plugin.attachment import generator_loss
from d3_plugin.data import GZSLData, load
from tests.toys import SMALL, WEIGHT_ZERO, PlainGenerator, linear_problem, parts_of, toy_problem

UNTRAINED = pytest.mark.filterwarnings("ignore:synthetic rows are")


class Recorder(nn.Module):
    """Takes two or three inputs by place or name, in any order, and keeps the last ones."""

    last: ClassVar[tuple[Tensor, Tensor]]

    def __init__(self, width: int = 10) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 12)

    def forward(self, c: Tensor, z: Tensor, layer: Tensor | None = None) -> Tensor:
        Recorder.last = c, z  # an attribute of the module would be restored
        rows = self.layer(torch.cat([c, z], 1))
        return rows if layer is None else rows + layer.sum()


Loop = Callable[[nn.Module, Tensor], object]
LOOPS: dict[str, tuple[Loop, Callable[[Tensor], Tensor], int]] = {
    "as named": (lambda g, a: g(a, torch.randn(len(a), 5)), lambda a: a, 0),
    "swapped": (lambda g, a: g(torch.randn(len(a), 5), a), lambda a: a, 1),
    "by keyword": (lambda g, a: g(z=a, c=torch.randn(len(a), 5)), lambda a: a, 1),
    "scaled": (lambda g, a: g(17 * a, torch.randn(len(a), 5)), lambda a: 17 * a, 0),
    "unit rows": (lambda g, a: g(F.normalize(a), torch.randn(len(a), 5)), F.normalize, 0),
    "other columns": (lambda g, a: g(a.flip(1), torch.randn(len(a), 5)), lambda a: a.flip(1), 0),
}


def trained(net: nn.Module, data: GZSLData, loop: Loop, steps: int = 9, **how: Any) -> D3:
    d3 = d3_plugin.attach(**(parts_of(net, data) | {"settings": SMALL}), **how)
    for _ in range(steps):
        loop(net, data.attributes[data.train_labels[torch.randperm(80)[:32]]])
        d3.loss()
    return d3


@UNTRAINED
def test_codes_of_an_encoder_are_said_once(toy_data: GZSLData) -> None:
    """Though their figures are others whenever D³ looks at the loop's calls."""
    encoder, scale = nn.Linear(12, 5), iter(torch.linspace(1, 3, 40))

    def loop(net: nn.Module, attributes: Tensor) -> None:
        net(next(scale) * encoder(torch.randn(len(attributes), 12)), attributes)

    with pytest.warns(D3Warning, match="codes of another network") as found:
        trained(PlainGenerator(), toy_data, loop, steps=40)
    assert sum("codes of another network" in str(each.message) for each in found) == 1


@UNTRAINED
@pytest.mark.parametrize("name", LOOPS)
def test_call_of_the_loop(toy_data: GZSLData, name: str) -> None:
    loop, expected, place = LOOPS[name]
    net = Recorder()
    d3 = trained(net, toy_data, loop)
    own = expected(toy_data.attributes[toy_data.unseen_classes])
    given = net.last[place]
    assert torch.cdist(given.detach(), own).amin(dim=1).max() < 2e-2
    d3_plugin.evaluate(generator=net, data=toy_data)
    table = expected(toy_data.attributes)
    assert torch.cdist(net.last[place], table).amin(dim=1).max() < 2e-2, "also without d3"
    assert "calls of the loop" in d3.check(prove=False).lines[0].known_by


NOISES: dict[str, tuple[Callable[[int], Tensor], float, float]] = {
    "small": (lambda n: 0.1 * torch.randn(n, 5), 0.08, 0.12),
    "uniform": (lambda n: torch.rand(n, 5), 0.25, 0.33),
    "large": (lambda n: 3 * torch.randn(n, 5), 2.6, 3.4),
}


@UNTRAINED
@pytest.mark.parametrize("name", NOISES)
def test_noise_of_the_loop_or_the_user(toy_data: GZSLData, name: str) -> None:
    draw, low, high = NOISES[name]
    torch.manual_seed(1)  # of an untrained generator the seen-class check says this or that
    net = Recorder()
    d3 = trained(net, toy_data, lambda g, a: g(a, draw(len(a))), steps=20)
    d3.evaluate()
    assert low < net.last[1].std() < high
    other = Recorder()
    d3_plugin.evaluate(generator=other, data=toy_data, noise=draw)
    assert low < other.last[1].std() < high


def test_contradiction_is_said_once(toy_data: GZSLData) -> None:
    net = Recorder()
    d3 = d3_plugin.attach(**(parts_of(net, toy_data) | {"settings": SMALL}))
    d3.loss()
    rows = toy_data.attributes[toy_data.train_labels]
    net(torch.randn(80, 5), rows)
    with pytest.warns(D3Warning, match=r"the loop calls generator\(noise.*until now D³ called"):
        d3.loss()
    net(torch.randn(80, 5), rows)
    d3.loss()


@pytest.mark.parametrize("when", ["loss", "evaluate"])
def test_an_input_that_d3_cannot_make(toy_data: GZSLData, when: str) -> None:
    net, other = Recorder(), nn.Linear(5, 3)
    message = r"(?s)layer=.*computed by another network.*synthesize=lambda class_ids, attributes: "

    def loop(g: nn.Module, a: Tensor) -> None:
        g(a, torch.randn(len(a), 5), layer=other(a))

    if when == "loss":
        with pytest.raises(HostError, match=message + r"generator\(attributes, torch.randn"):
            trained(net, toy_data, loop, steps=40)
    else:
        d3 = trained(net, toy_data, loop, steps=4)
        with pytest.raises(HostError, match=message):
            d3.evaluate()


def test_mixtures_of_classes_come_first(toy_data: GZSLData) -> None:
    """As in CIZSL and GRaWD, whose loop calls on mixtures of two classes in every step."""
    net = Recorder()

    def loop(g: nn.Module, a: Tensor) -> None:
        share = torch.rand(len(a), 1) * 0.6 + 0.2
        g(share * a + (1 - share) * a.roll(1, 0), torch.randn(len(a), 5))
        g(a, torch.randn(len(a), 5))

    d3 = trained(net, toy_data, loop, steps=40)
    assert "generator(attributes, noise (N, 5) of normal(0, 1))" in repr(d3.check(prove=False))


@pytest.mark.parametrize("training", [True, False])
def test_final_synthesis_follows_the_loops_mode(toy_data: GZSLData, training: bool) -> None:
    net = Recorder()
    d3 = trained(net, toy_data, LOOPS["as named"][0])
    net.train(training)
    with torch.no_grad():
        net(toy_data.attributes[toy_data.unseen_classes].repeat(20, 1), torch.randn(40, 5))
    net.train()
    modes = []
    handle = net.layer.register_forward_hook(lambda *_: modes.append(net.training))
    d3.evaluate(final_classifier="host")
    handle.remove()
    assert modes[0] is training
    assert net.training


def test_watching_ends_with_detach(toy_data: GZSLData) -> None:
    net = Recorder()
    d3 = trained(net, toy_data, LOOPS["swapped"][0], steps=2)
    assert len(net._forward_pre_hooks) == 1
    d3.detach()
    assert len(net._forward_pre_hooks) == 0


class Deep(nn.Module):
    def __init__(self, data: GZSLData) -> None:
        super().__init__()
        width = 2 * data.attributes.shape[1]
        self.layers = nn.Sequential(
            nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, data.feature_dim), nn.ReLU()
        )

    def forward(self, embd: Tensor, noise: Tensor) -> Tensor:
        return self.layers(torch.cat([embd, noise], 1))


@cache
def learnt() -> nn.Module:
    """On scaled digits."""
    data, steps = load("digits").scaled(), 200
    torch.manual_seed(0)
    net = Deep(data)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(steps):
        rows = torch.randint(len(data.train_labels), (64,))
        given = data.attributes[data.train_labels[rows]]
        optimizer.zero_grad()
        made = net(given, torch.randn_like(given))
        (made - data.train_features[rows]).square().sum(1).mean().backward()
        optimizer.step()
    return net


@pytest.mark.parametrize("function", [d3_plugin.evaluate, d3_plugin.classifier])
def test_wrong_guess_without_a_loop(function: Callable[..., object]) -> None:
    data, net = load("digits").scaled(), learnt()
    with pytest.warns(D3Warning) as said:
        function(generator=net, data=data)
    assert any("with generator(attributes, noise" in str(each.message) for each in said)
    function(
        generator=net, data=data, synthesize=lambda ids, a: net(a, torch.randn_like(a))
    )  # any warning would be an error here


@pytest.mark.parametrize("function", [d3_plugin.evaluate, d3_plugin.classifier])
def test_data_that_are_not_scaled(function: Callable[..., object]) -> None:
    data, net = load("digits"), learnt()
    with pytest.warns(D3Warning, match="times as long as the real rows of data="):
        function(generator=net, data=data, synthesize=lambda ids, a: net(a, torch.randn_like(a)))


@pytest.mark.parametrize("mode", ["loss", "hook"])
def test_data_that_are_not_scaled_are_noticed_in_training(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a batch in ``loss()``, too, and before the training ends."""
    monkeypatch.setattr(generator_loss, "_SHOWN_AFTER", 150)
    data, scaled = load("digits"), load("digits").scaled()
    torch.manual_seed(0)
    net = Deep(data)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    d3 = d3_plugin.attach(
        generator=net, optimizer=optimizer, data=data, settings=WEIGHT_ZERO, mode=mode
    )

    def loop() -> None:
        for _ in range(150):
            rows = torch.randint(len(data.train_labels), (64,))
            given = scaled.attributes[data.train_labels[rows]]
            optimizer.zero_grad()
            loss = (net(given, torch.randn_like(given)) - scaled.train_features[rows]).square()
            (loss.sum(1).mean() + (d3.loss() if mode == "loss" else 0)).backward()
            optimizer.step()

    with pytest.warns(D3Warning, match="times as long as the real rows of data="):
        loop()


def test_synthesis_that_says_nothing_of_unseen_classes() -> None:
    data = linear_problem(range(4), range(4, 14))
    net = PlainGenerator()
    noise = {"synthesize": lambda ids, a: 0.5 + 0.01 * torch.randn(len(a), 12) + 0 * net(a, a)}
    with pytest.warns(D3Warning, match="what guessing gives"):
        d3_plugin.evaluate(generator=net, data=data, **noise)


def test_modes_that_differ(toy_data: GZSLData) -> None:
    """Batch statistics of a mixture: the loop also calls on other inputs."""
    net = nn.Sequential(nn.Linear(5, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 12))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    d3 = d3_plugin.attach(
        generator=net,
        optimizer=optimizer,
        data=toy_data,
        settings=WEIGHT_ZERO,
        synthesize=lambda ids, att: net(att + 0.01 * torch.randn_like(att)),
    )
    for _ in range(100):
        rows = torch.randint(80, (32,))
        features, ids = toy_data.train_features[rows], toy_data.train_labels[rows]
        loss = (net(toy_data.attributes[ids]) - features).square().mean()
        loss = loss + 0 * net(100 + 20 * torch.randn(32, 5)).mean()
        optimizer.zero_grad()
        (loss + d3.loss(features=features, labels=ids)).backward()
        optimizer.step()
    with pytest.warns(D3Warning, match="rows in eval mode differ from rows in train mode"):
        d3.evaluate()


def test_check_and_progress() -> None:
    data, said = toy_problem(), list[str]()
    net = Recorder()
    d3 = trained(net, data, LOOPS["swapped"][0], steps=6, progress=said.append)
    assert any(line.startswith("D³ on script") for line in said)
    state = torch.get_rng_state()
    check = d3.check()
    assert torch.equal(torch.get_rng_state(), state)
    whats = {line.what for line in check.lines}
    assert whats >= {"generator's call", "attributes", "features", "labels", "final classifier"}
    assert whats >= {"restored modules", "loss in generator", "time of a step", "synthetic rows"}
    assert "<table>" in check._repr_html_()
