"""The form of a loop's generator calls is learnt from what the loop passes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d3_plugin.data import GZSLData
from d3_plugin.hosts.loop_calls import own_calls
from tests.hosts.watched import NOISE, Problem, Z


@pytest.fixture
def problem() -> Problem:
    torch.manual_seed(0)
    return Problem(torch.rand(10, 26) + 0.1)


Idiom = Callable[[nn.Module, Tensor, Tensor, GZSLData], object]


def mapped(d: GZSLData, f: Callable[[Tensor], Tensor], ids: Tensor) -> Tensor:
    return f(d.attributes)[ids]


ORDER = torch.randperm(26, generator=torch.Generator().manual_seed(1))
IDIOMS: dict[str, tuple[Idiom, str]] = {
    "noise first": (lambda g, y, a, d: g(torch.randn(64, Z), a), f"{NOISE}, attributes"),
    "attributes first": (lambda g, y, a, d: g(a, torch.randn(64, Z)), f"attributes, {NOISE}"),
    "by keyword": (lambda g, y, a, d: g(torch.randn(64, Z), c=a), f"{NOISE}, c=attributes"),
    "noise by keyword": (
        lambda g, y, a, d: g(z=torch.randn(64, Z), att=a),
        f"z={NOISE}, att=attributes",
    ),
    "as wide": (
        lambda g, y, a, d: g(torch.randn(64, 26), a),
        "noise (N, 26) of normal(0, 1), attributes",
    ),
    "in one": (
        lambda g, y, a, d: g(torch.cat([torch.randn(64, Z), a], 1)),
        f"[{NOISE} | attributes]",
    ),
    "in one, attributes first": (
        lambda g, y, a, d: g(torch.cat([a, torch.randn(64, Z)], 1)),
        f"[attributes | {NOISE}]",
    ),
    "uniform": (
        lambda g, y, a, d: g(a, torch.rand(64, Z)),
        "attributes, noise (N, 10) of uniform(0, 1)",
    ),
    "uniform about 0": (
        lambda g, y, a, d: g(torch.rand(64, Z) * 2 - 1, a),
        "noise (N, 10) of uniform(-1, 1), attributes",
    ),
    "small noise": (
        lambda g, y, a, d: g(0.1 * torch.randn(64, Z), a),
        "noise (N, 10) of normal(0, 0.1), attributes",
    ),
    "shifted noise": (
        lambda g, y, a, d: g(1 + 2 * torch.randn(64, Z), a),
        "noise (N, 10) of normal(1, 2), attributes",
    ),
    "rows (1, W)": (
        lambda g, y, a, d: g(torch.randn(64, 1, Z), a[:, None]),
        f"{NOISE}, attributes",
    ),
    "rows (W, 1, 1)": (
        lambda g, y, a, d: g(torch.randn(64, Z, 1, 1), a[:, :, None, None]),
        f"{NOISE}, attributes",
    ),
    "half precision": (
        lambda g, y, a, d: g(torch.randn(64, Z).half(), a.half()),
        f"{NOISE}, attributes",
    ),
    "bfloat16": (
        lambda g, y, a, d: g(torch.randn(64, Z).bfloat16(), 17 * a.bfloat16()),
        f"{NOISE}, attributes x 17",
    ),
    "double": (
        lambda g, y, a, d: g(torch.randn(64, Z).double(), a.double()),
        f"{NOISE}, attributes",
    ),
    "scaled": (lambda g, y, a, d: g(torch.randn(64, Z), 17 * a), f"{NOISE}, attributes x 17"),
    "scaled down": (
        lambda g, y, a, d: g(torch.randn(64, Z), a / 100),
        f"{NOISE}, attributes x 0.01",
    ),
    "unit rows": (
        lambda g, y, a, d: g(torch.randn(64, Z), F.normalize(a)),
        f"{NOISE}, unit attributes",
    ),
    "unit rows scaled": (
        lambda g, y, a, d: g(torch.randn(64, Z), 5 * F.normalize(a)),
        f"{NOISE}, unit attributes x 5",
    ),
    "row sums": (
        lambda g, y, a, d: g(torch.randn(64, Z), a / a.sum(1, keepdim=True)),
        f"{NOISE}, attributes / row sum",
    ),
    "standardised": (
        lambda g, y, a, d: g(
            torch.randn(64, Z), mapped(d, lambda t: (t - t.mean(0)) / t.std(0), y)
        ),
        f"{NOISE}, standardised attributes",
    ),
    "0 to 1": (
        lambda g, y, a, d: g(
            torch.randn(64, Z), mapped(d, lambda t: (t - t.min()) / (t.max() - t.min()), y)
        ),
        f"{NOISE}, attributes in [0, 1]",
    ),
    "noisy attributes": (
        lambda g, y, a, d: g(torch.randn(64, Z), a + 0.02 * torch.randn_like(a)),
        f"{NOISE}, attributes + normal noise of 0.02",
    ),
    "other order": (
        lambda g, y, a, d: g(torch.randn(64, Z), a[:, ORDER]),
        f"{NOISE}, attributes, 26 columns in another order",
    ),
    "some columns": (
        lambda g, y, a, d: g(torch.randn(64, Z), a[:, ::2]),
        f"{NOISE}, attributes, 13 columns of 26",
    ),
    "one row": (lambda g, y, a, d: g(torch.randn(1, Z), a[:1]), f"{NOISE}, attributes"),
    "constants": (
        lambda g, y, a, d: g(torch.randn(64, Z), None, a, scale=0.5, mode="train"),
        f"{NOISE}, None, attributes, scale=0.5, mode='train'",
    ),
    "the whole table": (
        lambda g, y, a, d: g(torch.randn(64, Z), a, d.attributes),
        f"{NOISE}, attributes, the same (10, 26) tensor",
    ),
    "three kinds of noise": (
        lambda g, y, a, d: g(torch.randn(64, Z), a, 0.1 * torch.randn(64, 5), e=torch.rand(64, 3)),
        f"{NOISE}, attributes, noise (N, 5) of normal(0, 0.1), e=noise (N, 3) of uniform(0, 1)",
    ),
    "no noise": (lambda g, y, a, d: g(a), "attributes"),
}


@pytest.mark.parametrize("name", IDIOMS)
def test_learnt_form(name: str, problem: Problem) -> None:
    """And D³'s call has the form of the loop's: the same shapes, attributes and random numbers."""
    call, expected = IDIOMS[name]
    for _ in range(12):
        ids, attributes = problem.batch()
        call(problem.net, ids, attributes, problem.data)
    form = problem.form()
    assert str(form) == f"generator({expected})"
    assert (form.problem, form.note) == ("", "")
    torch.manual_seed(5)
    call(problem.net, ids, attributes, problem.data)
    loop_args, loop_kwargs = problem.net.last
    torch.manual_seed(5)
    with own_calls():
        form.call(problem.net, ids if len(loop_args[0] if loop_args else ids) > 1 else ids[:1])
    args, kwargs = problem.net.last
    assert len(args) == len(loop_args)
    assert kwargs.keys() == loop_kwargs.keys()
    for own, theirs in zip(
        [*args, *kwargs.values()], [*loop_args, *loop_kwargs.values()], strict=True
    ):
        if isinstance(theirs, Tensor):
            torch.testing.assert_close(own.double(), theirs.double(), rtol=1e-2, atol=1e-2)
        else:
            assert own == theirs


@pytest.mark.parametrize("moved", [0.0, 0.1])
@pytest.mark.parametrize("rows", [8, 64])
def test_the_same_noise_again(rows: int, moved: float, problem: Problem) -> None:
    """Of a closure, and as ABP-ZSL infers it by Langevin steps, with few rows and with more."""
    noise = torch.randn(rows, Z)
    for _ in range(12):
        problem.net(noise, problem.batch(rows)[1])
        noise = noise + moved * torch.randn(rows, Z)
    assert str(problem.form()) == f"generator({NOISE}, attributes)"


class Encoder(nn.Module):
    def __init__(self, width: int = Z) -> None:
        super().__init__()
        self.layer = nn.Linear(26, width)

    def forward(self, rows: Tensor) -> Tensor:
        return self.layer(rows) + 0.5 * torch.randn(len(rows), self.layer.out_features)


ENCODER, NETWORK, CODER = Encoder(), Encoder(7), nn.Linear(64, 7)
UNKNOWN: dict[str, tuple[Idiom, str]] = {
    "output of another network": (
        lambda g, y, a, d: g(torch.randn(64, Z), a, layer=NETWORK(a)),
        r"as layer= \(.*computed by another network\) and would call generator\(noise \(N, 10\) of "
        r"normal\(0, 1\), attributes\).*generator\(torch.randn\(len\(attributes\), 10\), "
        r"attributes, layer=\.\.\.\)",
    ),
    "a mixture": (
        lambda g, y, a, d: g(
            torch.where(torch.rand(64, Z) < 0.5, 5.0, 0.0) + torch.randn(64, Z), a
        ),
        "as argument 1 .mean 2.*neither normal nor uniform",
    ),
    "noise that depends on the class": (
        lambda g, y, a, d: g(torch.randn(64, Z) + 2 * y[:, None], a),
        "as argument 1 .*neither normal nor uniform",
    ),
    "spread by column": (
        lambda g, y, a, d: g(torch.randn(64, Z) * torch.arange(1, 11), a),
        "as argument 1 ",
    ),
    "features": (
        lambda g, y, a, d: g(d.train_features[:64], a),
        r"as argument 1 .*lambda class_ids, attributes: generator\(\.\.\., attributes\)",
    ),
    "the same noise twice": (
        lambda g, y, a, d: (lambda z: g(z, a, z))(torch.randn(64, Z)),
        "as argument 3 .*the same as in an argument before it",
    ),
    "detached codes": (
        lambda g, y, a, d: g(torch.randn(64, Z), a, CODER(d.train_features[y]).detach()),
        "as argument 3 .*neither normal nor uniform",
    ),
    "detached codes alone": (
        lambda g, y, a, d: g(CODER(d.train_features[y]).detach(), a),
        "as argument 1 .*neither normal nor uniform",
    ),
    "mapped labels": (
        lambda g, y, a, d: g(torch.randn(64, Z), a, torch.searchsorted(d.seen_classes, y)),
        "as argument 3 .*another in other calls",
    ),
    "class ids": (
        lambda g, y, a, d: g(torch.randn(64, Z), y),
        r"nothing in it is a row of data.attributes.*synthesize=",
    ),
    "one draw for all rows": (
        lambda g, y, a, d: g(torch.randn(1, Z).expand(64, -1), a),
        "as argument 1 .*neither normal nor uniform",
    ),
    "time steps": (
        lambda g, y, a, d: g(torch.randn(64, Z), torch.randint(1000, (64,)), a),
        "as argument 2 .*another in other calls",
    ),
    "a number that varies": (
        lambda g, y, a, d: g(torch.randn(64, Z), a, tau=torch.rand(1).item()),
        "as tau=.*another in other calls",
    ),
    "a list": (
        lambda g, y, a, d: g([torch.randn(64, Z), a]),
        "nothing in it is a row of data.attributes.*synthesize=",
    ),
    "other attributes": (
        lambda g, y, a, d: g(torch.randn(64, Z), F.one_hot(y, 50).float() + torch.rand(64, 50)),
        "nothing in it is a row of data.attributes",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_form_that_d3_cannot_call(name: str, problem: Problem) -> None:
    call, message = UNKNOWN[name]
    for _ in range(12):
        call(problem.net, *problem.batch(), problem.data)
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(problem.form().problem)


def test_codes_of_an_encoder(problem: Problem) -> None:
    """A VAE's decoder: D³ says that it draws from the prior; the loop's synthesis confirms it."""
    for _ in range(12):
        problem.net(ENCODER(a := problem.batch()[1]), a)
    assert "noise (N, 10) of normal(0, 1)" in str(problem.form())
    assert "D³ draws" in problem.form().note
    unseen = problem.data.attributes[problem.data.unseen_classes].repeat(20, 1)
    problem.net.eval()
    with torch.no_grad():
        problem.net(0.5 * torch.randn(len(unseen), Z), unseen)
    form = problem.form()
    assert (str(form), form.note, form.training) == (
        "generator(noise (N, 10) of normal(0, 0.5), attributes)",
        "",
        False,
    )


def test_noise_among_codes(problem: Problem) -> None:
    for step in range(12):
        _, a = problem.batch()
        problem.net(ENCODER(a) if step % 2 else torch.randn(64, Z), a)
    assert str(problem.form()) == f"generator({NOISE}, attributes)"


def test_calls_on_other_inputs(problem: Problem) -> None:
    """The majority of the calls that hold attributes counts; others have the same shape."""
    for step in range(24):
        _, a = problem.batch()
        problem.net(20 * torch.randn(64, 26) if step % 2 else a)
    form = problem.form()
    assert str(form) == "generator(attributes)"
    assert form.calls == 4
    assert "4 of 8 calls of the loop; the others: generator(noise (N, 26)" in form.known_by


@pytest.mark.parametrize(
    "attributes",
    [
        torch.randint(0, 2, (10, 26), generator=torch.Generator().manual_seed(0)).float(),
        torch.rand(3, 26).repeat(4, 1)[:10],
        F.normalize(torch.rand(10, 26)),
        torch.rand(10, 2),
        torch.rand(10, 1),
        torch.rand(10, Z),
    ],
    ids=["0/1", "repeated rows", "unit rows", "two", "one", "as wide as noise"],
)
def test_kinds_of_attributes(attributes: Tensor) -> None:
    torch.manual_seed(0)
    problem = Problem(attributes)
    for _ in range(10):
        _, a = problem.batch()
        problem.net(a, torch.randn(64, Z))
    assert str(problem.form()) == f"generator(attributes, {NOISE})"
