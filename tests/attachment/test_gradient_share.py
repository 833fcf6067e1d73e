"""D³'s part of the generator's gradient: measured in both modes, and named where it is large."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from d3_plugin import D3, D3Warning
from d3_plugin.data import GZSLData
from tests.toys import SMALL, WEIGHT_ZERO, ScriptHost, VAEHost, attach


def norm(gradients: list[Tensor | None]) -> float:
    return torch.cat([g.flatten() for g in gradients if g is not None]).norm().item()


def apart(host: ScriptHost | VAEHost, d3: D3, loss: Tensor) -> float:
    """The share, from two backward passes."""
    reached = [*host.net_g.parameters()]
    reached += [*host.net_f.parameters()] if isinstance(host, VAEHost) else []
    extra = d3.loss()
    own = torch.autograd.grad(extra, reached, retain_graph=True)
    return norm([*own]) / norm([*torch.autograd.grad(loss + extra, reached)])


# VAEHost has another optimizer for its feedback, which a hook does not reach.
@pytest.mark.parametrize(
    ("kind", "mode"), [(ScriptHost, "loss"), (ScriptHost, "hook"), (VAEHost, "loss")]
)
@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_share_is_that_of_two_passes(
    toy_data: GZSLData, kind: type[ScriptHost] | type[VAEHost], mode: str, scale: float
) -> None:
    """VAEHost synthesises through the generator twice, and through another network.

    A loss that is scaled as a whole, as GradScaler's, has the same share.
    """

    def ready(mode: str) -> tuple[ScriptHost | VAEHost, D3, Tensor]:
        host = kind(toy_data)
        d3 = host.attach(mode=mode) if isinstance(host, VAEHost) else attach(host, mode=mode)
        host.critic_step()
        loss = host.generator_loss()
        return host, d3, loss[0] if isinstance(loss, tuple) else loss

    expected = apart(*ready("loss"))
    host, d3, loss = ready(mode)
    assert "gradient_share" not in d3.values
    if mode == "loss":
        ((loss + d3.loss()) * scale).backward()
    else:
        loss.backward()
        host.optimizer_g.step()
    assert d3.values["gradient_share"].item() == pytest.approx(expected, rel=1e-4)


def test_no_second_backward_pass(host: ScriptHost) -> None:
    """Measuring runs nothing of the host's a second time."""
    passes: list[int] = []

    class Counted(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, rows: Tensor) -> Tensor:
            return rows.clone()

        @staticmethod
        def backward(ctx: object, outer: Tensor) -> Tensor:
            passes.append(1)
            return outer

    d3 = attach(host, synthesize=lambda ids, att: Counted.apply(host.net_g(att, att)))
    for step in range(12):
        passes.clear()
        (host.generator_loss() + d3.loss()).backward()
        assert len(passes) == 1
        assert "gradient_share" in d3.values
        if step == 0:
            first = d3.values["gradient_share"]
        assert torch.equal(d3.values["gradient_share"], first) == (step < 10)


def test_autograd_grad_and_weight_zero_measure_nothing(host: ScriptHost) -> None:
    d3 = attach(host)
    host.net_g.zero_grad()
    torch.autograd.grad(d3.loss() + host.generator_loss(), list(host.net_g.parameters()))
    assert "gradient_share" not in d3.values
    still = attach(host, WEIGHT_ZERO)
    (still.loss() + host.generator_loss()).backward()
    assert "gradient_share" not in still.values


@contextmanager
def named(share: bool) -> Iterator[None]:
    if share:
        with pytest.warns(D3Warning, match=r"gradient is \d+\.\d%; above 4%.*weight=0\.\d") as made:
            yield
        assert len(made) == 1
    else:
        yield  # a warning is an error


@pytest.mark.parametrize("mode", ["loss", "hook"])
@pytest.mark.parametrize("weight", [0.5, 0.001])
def test_a_large_share_is_named_once(toy_data: GZSLData, mode: str, weight: float) -> None:
    host = ScriptHost(toy_data)
    d3 = attach(host, replace(SMALL, weight=weight), mode=mode)
    with named(weight == 0.5):
        host.run(101, d3 if mode == "loss" else None)


@pytest.mark.parametrize("mode", ["loss", "hook"])
@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_the_weight_follows_a_share(toy_data: GZSLData, mode: str, scale: float) -> None:
    """Whatever the scale of the host's own loss, and without a warning of a large share."""
    host = ScriptHost(toy_data)
    d3 = attach(host, replace(SMALL, weight=1e-4, gradient_share=0.1), mode=mode)
    shares = []
    for _ in range(60):
        host.critic_step()
        loss = host.generator_loss() * scale
        (loss + d3.loss() if mode == "loss" else loss).backward()
        host.optimizer_g.step()
        shares.append(d3.values["gradient_share"])
    assert torch.stack(shares[10:]).median().item() == pytest.approx(0.1, rel=0.3)


def test_a_share_that_cannot_be_measured_is_named_once(host: ScriptHost) -> None:
    d3 = attach(host, replace(SMALL, weight=1e-4, gradient_share=0.03))

    def steps(number: int) -> None:
        parameters = list(host.net_g.parameters())
        for _ in range(number):
            gradients = torch.autograd.grad(d3.loss(), parameters)
            torch._foreach_sub_([p.data for p in parameters], gradients)

    steps(49)
    with pytest.warns(D3Warning, match=r"cannot be measured, so its weight stays 0\.0001"):
        steps(1)
    steps(50)


def test_a_skipped_step_does_not_count(host: ScriptHost) -> None:
    d3 = attach(host, replace(SMALL, weight=1e-4, gradient_share=0.03))
    for step in range(4):
        rows = torch.full((1, 12), torch.nan) if step == 2 else host.data.train_features[:1]
        with pytest.warns(D3Warning, match="skipped 1") if step == 2 else named(False):
            (host.generator_loss() + d3.loss(rows, host.data.train_labels[:1])).backward()
        host.optimizer_g.step()
    assert 0 < d3.values["gradient_share"].item() < 0.3


def test_clipping_before_hook_mode_shows(host: ScriptHost) -> None:
    """The loop clips before the optimiser's step, and D³ comes after."""
    attach(host, replace(SMALL, weight=0.01), mode="hook")

    def step() -> None:
        host.generator_loss().backward()
        nn.utils.clip_grad_norm_(host.net_g.parameters(), 1e-4)
        host.optimizer_g.step()

    for _ in range(49):
        step()
    with pytest.warns(D3Warning, match="clips.*mode='loss'"):
        step()
