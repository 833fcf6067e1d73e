"""A loss that goes nowhere is said; other optimisers are followed; D³'s calls leave no trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import d3_plugin
from d3_plugin import D3Settings, D3Warning
from d3_plugin.data import GZSLData
from tests.toys import SMALL, WEIGHT_ZERO, PlainGenerator, parts_of


def run(
    net: nn.Module, data: GZSLData, extra: Callable[[Tensor, Tensor], Tensor], lr: float = 1e-3
) -> None:
    """60 steps; ``extra`` joins the generator's loss and D³'s, and calls backward."""
    d3 = d3_plugin.attach(**(parts_of(net, data) | {"settings": replace(SMALL, weight=0.01)}))
    optimizer = torch.optim.Adam(net.parameters(), lr)
    for _ in range(60):
        optimizer.zero_grad()
        rows = data.attributes[data.train_labels[:16]]
        loss = net(torch.randn(16, 5), rows).square().mean()
        extra(loss, d3.loss())
        optimizer.step()


LOST: dict[str, Callable[[Tensor, Tensor], object]] = {
    "never added": lambda loss, own: loss.backward(),
    "after backward": lambda loss, own: (loss.backward(), loss + own),
    "detached": lambda loss, own: (loss + own.detach()).backward(),
    "as a number": lambda loss, own: (loss + own.item()).backward(),
}


@pytest.mark.parametrize("name", LOST)
def test_loss_that_goes_nowhere(toy_data: GZSLData, name: str) -> None:
    with pytest.warns(D3Warning, match=r"no gradient of the last 50 d3.loss\(\).*before backward"):
        run(PlainGenerator(), toy_data, LOST[name])


def test_loss_that_arrives(toy_data: GZSLData) -> None:
    torch.manual_seed(0)  # with some generators D³'s share is above 4 %
    run(PlainGenerator(), toy_data, lambda loss, own: (loss + own).backward())


@pytest.mark.filterwarnings("ignore:D³'s part of the generator's gradient")
def test_optimizer_that_changes_nothing(toy_data: GZSLData) -> None:
    net, own = PlainGenerator(), PlainGenerator()
    d3 = d3_plugin.attach(**(parts_of(net, toy_data) | {"settings": SMALL}))
    optimizer = torch.optim.Adam(own.parameters())

    def loop() -> None:
        for _ in range(101):
            net.zero_grad()
            d3.loss().backward()
            optimizer.step()

    with pytest.warns(D3Warning, match="the generator has not changed in the last 50 steps"):
        loop()


def test_hook_mode_that_changes_nothing(toy_data: GZSLData) -> None:
    """The rate is 0."""
    net = PlainGenerator()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    parts = parts_of(net, toy_data) | {"optimizer": optimizer, "mode": "hook"}
    d3_plugin.attach(**(parts | {"settings": replace(SMALL, weight=0.1)}))

    def loop() -> None:
        for _ in range(101):
            net.zero_grad()
            net(
                torch.randn(16, 5), toy_data.attributes[toy_data.train_labels[:16]]
            ).sum().backward()
            optimizer.step()

    with pytest.warns(D3Warning, match="the generator has not changed in the last 50 steps"):
        loop()


def test_weight_that_is_in_effect_zero(toy_data: GZSLData) -> None:
    net = PlainGenerator()
    parts = parts_of(net, toy_data)
    d3 = d3_plugin.attach(**(parts | {"settings": replace(SMALL, weight=1e-7)}))

    def loop() -> None:
        for _ in range(50):
            parts["optimizer"].zero_grad()
            loss = net(torch.randn(16, 5), toy_data.attributes[toy_data.train_labels[:16]])
            (loss.square().mean() + d3.loss()).backward()
            parts["optimizer"].step()

    with pytest.warns(D3Warning, match="in effect the weight is 0"):
        loop()


def test_new_optimizer_is_followed(toy_data: GZSLData) -> None:
    net = PlainGenerator()
    d3 = d3_plugin.attach(**(parts_of(net, toy_data) | {"settings": SMALL}), mode="hook")
    critic = nn.Linear(12, 1)
    other = torch.optim.Adam(critic.parameters())
    optimizer = torch.optim.Adam(net.parameters())

    def loop() -> None:
        for _ in range(20):
            critic(net(torch.randn(4, 5), toy_data.attributes[:4])).mean().backward()
            other.step()
            optimizer.step()

    with pytest.warns(D3Warning, match="another one with the generator's parameters is"):
        loop()
    assert d3.steps >= 17
    d3.detach()
    optimizer.step()
    assert not optimizer._optimizer_step_pre_hooks


def test_backward_of_the_loss_alone(toy_data: GZSLData) -> None:
    net = PlainGenerator()
    d3 = d3_plugin.attach(**(parts_of(net, toy_data) | {"settings": WEIGHT_ZERO}))
    d3.loss().backward()
    assert all(p.grad is None for p in net.parameters())
    with torch.no_grad():
        assert not d3.loss().requires_grad


@pytest.mark.parametrize("settings", [SMALL, WEIGHT_ZERO])
def test_compiled_step(toy_data: GZSLData, settings: D3Settings) -> None:
    torch._dynamo.reset()
    net = PlainGenerator()
    d3 = d3_plugin.attach(**(parts_of(net, toy_data) | {"settings": settings}))

    @torch.compile(backend="eager")
    def step(z: Tensor, a: Tensor) -> Tensor:
        return net(z, a).pow(2).mean() + d3.loss()

    for _ in range(3):
        step(torch.randn(4, 5), toy_data.attributes[:4]).backward()
    assert d3.steps == 3


class Decaying(PlainGenerator):
    def forward(self, noise: Tensor, attributes: Tensor) -> Tensor:
        with torch.no_grad():
            self.out.weight.mul_(0.999)
        return super().forward(noise, attributes)


class Normalising(PlainGenerator):
    def forward(self, noise: Tensor, attributes: Tensor) -> Tensor:
        self.out.weight.data = nn.functional.normalize(self.out.weight.data)
        return super().forward(noise, attributes)


@pytest.mark.parametrize("kind", [Decaying, Normalising])
def test_weights_that_a_forward_pass_changes(
    toy_data: GZSLData, kind: type[PlainGenerator]
) -> None:
    ends = []
    for with_d3 in (False, True):
        torch.manual_seed(0)
        net = kind()
        parts = parts_of(net, toy_data)
        d3 = d3_plugin.attach(**(parts | {"settings": WEIGHT_ZERO})) if with_d3 else None
        for _ in range(5):
            parts["optimizer"].zero_grad()
            loss = net(torch.randn(4, 5), toy_data.attributes[:4]).square().mean()
            (loss if d3 is None else loss + d3.loss()).backward()
            parts["optimizer"].step()
        ends.append(net.out.weight.detach())
    assert torch.equal(*ends)


def test_hooks_that_keep_nothing_are_not_named(toy_data: GZSLData) -> None:
    net = PlainGenerator()
    net.hidden.register_forward_hook(lambda module, given, out: torch.tanh(out))
    attached = d3_plugin.attach(**(parts_of(net, toy_data) | {"settings": WEIGHT_ZERO}))
    attached.loss()  # any warning would be an error


KEPT: list[Tensor] = []


def keep(out: Tensor) -> None:
    KEPT.append(out)


class Recorder:
    def __init__(self) -> None:
        self.kept: list[Tensor] = []

    def note(self, module: nn.Module, given: object, out: Tensor) -> None:
        self.kept.append(out)

    __call__ = note


@pytest.mark.parametrize(
    "hook",
    [
        lambda module, given, out: KEPT.append(out),
        lambda module, given, out: keep(out),
        lambda module, given, out: [keep(each) for each in out] and None,
        lambda module, given, out, kept=[]: kept.append(out),
        Recorder(),
        Recorder().note,
    ],
    ids=["global list", "helper", "helper inside", "default", "object", "method"],
)
def test_other_hooks_that_keep(toy_data: GZSLData, hook: Callable[..., None]) -> None:
    net = PlainGenerator()
    net.hidden.register_forward_hook(hook)
    d3 = d3_plugin.attach(**(parts_of(net, toy_data) | {"settings": WEIGHT_ZERO}))
    with pytest.warns(D3Warning, match=r"hooks of the script, too: hidden: "):
        d3.loss()


@pytest.mark.parametrize("kind", ["forward", "before"])
def test_hooks_of_the_script_are_named(toy_data: GZSLData, kind: str) -> None:
    net, kept = PlainGenerator(), []
    d3 = d3_plugin.attach(**(parts_of(net, toy_data) | {"settings": WEIGHT_ZERO}))
    if kind == "forward":
        net.hidden.register_forward_hook(lambda module, given, out: kept.append(out))
    else:
        net.hidden.register_forward_pre_hook(lambda module, given: kept.append(given))
    with pytest.warns(D3Warning, match=r"hooks of the script, too: hidden: .*lambda"):
        d3.loss()
    d3.loss()
