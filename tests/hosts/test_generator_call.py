"""Which way a generator wants its noise and attributes, and how wide the noise is."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from d3_plugin import HostError, attach
from d3_plugin.data import GZSLData
from d3_plugin.errors import InputError
from d3_plugin.hosts.generator_call import (
    CONDITION_NAMES,
    contradiction,
    guessed_form,
    noise_width,
)
from d3_plugin.hosts.loop_form import LoopForm
from tests.hosts.watched import NOISE, Problem, Z
from tests.toys import FeedbackGenerator, parts_of

ATT = torch.ones(3, 4)


def called(net: nn.Module) -> Tensor:
    """By the guess, with noise 2 wide."""
    return guessed_form(net, ATT, 2).call(net, torch.arange(3))


class WithWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))


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
    class Net(WithWeight):
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
    assert torch.equal(called(nn.DataParallel(net) if wrapped else net), ATT)


def test_scripted_and_compiled_generators() -> None:
    class Net(WithWeight):
        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return c * 2

    assert torch.equal(called(torch.jit.script(Net())), ATT * 2)
    compiled = torch.compile(Net(), backend="eager")
    assert torch.equal(called(compiled), ATT * 2)


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


def test_attach_needs_no_word_about_either(toy_data: GZSLData) -> None:
    """7 wide noise beside 5 attributes, taken by name."""
    parts = parts_of(FeedbackGenerator(7, 5, 12), toy_data)
    attach(**parts).loss().backward()
    assert parts["generator"].fc1.weight.grad[:, :7].abs().max() > 0
    with pytest.raises(HostError, match=r"noise \(N, 5\).*noise_dim="):
        attach(**parts, noise_dim=5)


def test_generator_that_no_rule_knows(toy_data: GZSLData) -> None:
    """One that takes a single tensor."""
    net = nn.Linear(10, 12)
    parts = parts_of(net, toy_data)
    d3 = attach(**parts)
    with pytest.raises(HostError, match=r"noise \(N, 5\).*attributes.*in your loop.*synthesize="):
        d3.loss()
    data = toy_data
    net(torch.cat([torch.randn(20, 5), data.attributes[data.train_labels[:20]]], 1))
    d3.loss().backward()
    d3.detach()
    d3 = attach(
        **parts,
        synthesize=lambda ids, att: net(torch.cat([torch.randn(len(att), 5), att], dim=1)),
    )
    d3.loss().backward()
    assert net.weight.grad.abs().max() > 0


def test_loop_contradicts_the_guess() -> None:
    problem = Problem(torch.rand(10, 26) + 0.1)

    class Net(nn.Module):
        def forward(self, c: Tensor, z: Tensor) -> Tensor:
            return c

    net, attributes = Net(), problem.data.attributes
    guess = guessed_form(net, attributes, Z)
    assert str(guess) == f"generator(attributes, {NOISE})"
    calls = LoopForm(net, problem.data)
    net(torch.randn(64, Z), problem.batch()[1])
    learnt = calls.form()
    assert "the loop calls generator(noise" in contradiction(net, guess, learnt)
    by_keyword = LoopForm(same := Net(), problem.data)
    same(z=torch.randn(64, Z), c=problem.batch()[1])
    assert contradiction(same, guess, by_keyword.form()) == ""


@pytest.mark.parametrize("noise", [Normal(0.0, 0.1), lambda n: 0.1 * torch.randn(n, Z)])
def test_noise_of_the_user(noise: Distribution | Callable[[int], Tensor]) -> None:
    problem = Problem(torch.rand(10, 26) + 0.1)
    form = guessed_form(problem.net, problem.data.attributes, Z).with_noise(noise)
    form.call(problem.net, torch.tensor([1, 2, 3]))
    drawn, attributes = problem.net.last[0]
    assert drawn.shape == (3, Z)
    assert 0.01 < drawn.std() < 0.3
    assert torch.equal(attributes, problem.data.attributes[1:4])
    with pytest.raises(InputError, match=r"noise= must give \(3, Z\).*lambda n:"):
        form.with_noise(lambda n: torch.randn(n)).call(problem.net, torch.tensor([1, 2, 3]))
