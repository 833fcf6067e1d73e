"""Synthesis of seen classes tells a right call from a wrong one, and says so where it cannot.

Share of rows nearest to their own class mean / link, of seen classes, for generators of one hidden
layer of 512 (least squares, Adam 1e-3, batches of 64; the smaller of two seeds for the right call,
the larger for the wrong ones). ``scale``: trained with attributes x 17, called with x 1.

======= ====== ============ ============ ============ ============
data    call   10 steps     30           100          400
======= ====== ============ ============ ============ ============
cub50   right  .02 / 5.0    .04 / 9.9    .31 / 13.1   .87 / 19.3
cub50   order  .03 / 1.6    .03 / 1.4    .03 / 1.1    .04 / 3.2
cub50   scale  .04 / 7.0    .05 / 11.5   .06 / 14.6   .06 / 15.0
flo64   right  .01 / 3.8    .02 / 11.2   .07 / 16.2   .30 / 22.2
flo64   order  .02 / 0.9    .02 / 0.4    .02 / 1.3    .01 / -0.5
flo64   scale  .02 / 4.1    .02 / 5.2    .02 / 6.2    .02 / 7.0
digits  right  .38 / 5.9    .99 / 7.3    1.0 / 10.4   1.0 / 11.9
digits  order  .18 / 0.1    .18 / 2.2    .20 / 1.5    .18 / 1.0
digits  scale  .23 / 3.2    .24 / 5.2    .26 / 5.0    .25 / 5.2
======= ====== ============ ============ ============ ============

The share of rows needs some 100 steps to differ from chance, the link 10. Only another call that
does far better shows a wrong scale.
"""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn

from d3_plugin.data import GZSLData, load
from d3_plugin.evaluation.doubts import near_chance
from d3_plugin.evaluation.seen_class_check import compare_with_real
from d3_plugin.hosts.isolation import RandomStream


class Generator(nn.Module):
    def __init__(self, data: GZSLData) -> None:
        super().__init__()
        self.width = data.attributes.shape[1]
        self.layers = nn.Sequential(
            nn.Linear(2 * self.width, 128),
            nn.LeakyReLU(0.2),
            nn.Linear(128, data.feature_dim),
            nn.ReLU(),
        )

    def forward(self, noise: Tensor, attributes: Tensor) -> Tensor:
        return self.layers(torch.cat([noise, attributes], 1))


def trained(steps: int, data: GZSLData, factor: float = 1.0) -> Generator:
    torch.manual_seed(0)
    generator = Generator(data)
    optimizer = torch.optim.Adam(generator.parameters(), 3e-3)
    for _ in range(steps):
        rows = torch.randint(len(data.train_labels), (64,))
        given = factor * data.attributes[data.train_labels[rows]]
        made = generator(torch.randn_like(given), given)
        optimizer.zero_grad()
        (made - data.train_features[rows]).square().sum(1).mean().backward()
        optimizer.step()
    return generator


@pytest.fixture(scope="module")
def digits() -> GZSLData:
    return load("digits").scaled()


@pytest.mark.parametrize("steps", [30, 200])
def test_order_of_arguments(steps: int, digits: GZSLData) -> None:
    """A generator of 30 steps passes; called the other way round it does not."""
    generator, table = trained(steps, digits), digits.attributes

    def right(ids: Tensor) -> Tensor:
        return generator(torch.randn(len(ids), generator.width), table[ids])

    def wrong(ids: Tensor) -> Tensor:
        return generator(table[ids], torch.randn(len(ids), generator.width))

    good = compare_with_real(right, digits, [generator], {"attributes first": wrong})
    assert (good.warnings, good.own.link > 4) == ([], True)
    bad = compare_with_real(wrong, digits, [generator], {"noise first": right})
    assert bad.own.share < 0.35
    assert "noise first: D³ seems to call the generator differently" in bad.warnings[0]
    [alone] = compare_with_real(wrong, digits, [generator]).warnings
    assert "this check cannot tell" in alone
    assert compare_with_real(wrong, digits, [generator], call_seen=True).warnings == []


def test_scale_of_attributes(digits: GZSLData) -> None:
    generator, table = trained(200, digits, factor=10), digits.attributes
    calls = {
        f"attributes x {factor}": lambda ids, factor=factor: generator(
            torch.randn(len(ids), generator.width), factor * table[ids]
        )
        for factor in (1, 10)
    }
    proof = compare_with_real(calls["attributes x 1"], digits, [generator], calls)
    assert "with attributes x 10" in proof.warnings[0]
    assert compare_with_real(calls["attributes x 10"], digits, [generator], calls).warnings == []


def test_scale_of_features(digits: GZSLData) -> None:
    generator, table = trained(200, digits), digits.attributes
    proof = compare_with_real(
        lambda ids: generator(torch.randn(len(ids), generator.width), table[ids]), load("digits")
    )
    assert any("Scale data= as the loop does" in each for each in proof.warnings)
    assert proof.length < 0.1


def test_forms_that_cannot_be_called(digits: GZSLData) -> None:
    noise = lambda ids: torch.rand(len(ids), digits.feature_dim)  # noqa: E731
    linear = nn.Linear(3, 4)
    proof = compare_with_real(noise, digits, [], {"a wrong width": lambda ids: linear(ids.float())})
    assert proof.others == {}
    assert proof.own.share < 0.4
    assert len(proof.warnings) == 1


def test_other_mode(digits: GZSLData) -> None:
    """Batch statistics of a mixture; and every mode is as it was."""
    generator, table = trained(200, digits), digits.attributes
    norm = nn.BatchNorm1d(digits.feature_dim, affine=False)
    norm.running_mean += 30
    centre = digits.train_features.mean(0)

    def synthesize(ids: Tensor) -> Tensor:
        rows = generator(torch.randn(len(ids), generator.width), table[ids])
        return 0.2 * norm(rows) + centre

    norm.train()
    generator.eval()
    proof = compare_with_real(synthesize, digits, [generator, norm])
    assert proof.mode_gap > proof.between
    assert any("differ from rows in train mode" in each for each in proof.warnings)
    assert (norm.training, generator.training) == (True, False)


def test_equal_rows(digits: GZSLData) -> None:
    """Dropout is the only noise."""
    generator, table = trained(200, digits), digits.attributes
    drop = nn.Dropout(0.1)

    def synthesize(ids: Tensor) -> Tensor:
        return drop(generator(torch.zeros(len(ids), generator.width), table[ids]))

    proof = compare_with_real(synthesize, digits, [generator, drop])
    assert proof.equal == 1
    assert any("all rows of a class are equal" in each for each in proof.warnings)


def test_random_numbers_and_time(digits: GZSLData) -> None:
    """Nothing is drawn from the script's stream."""
    generator, table = trained(1, digits), digits.attributes
    state = torch.get_rng_state()
    start = time.perf_counter()
    with RandomStream(0, torch.device("cpu"), "proof"):
        compare_with_real(
            lambda ids: generator(torch.randn(len(ids), generator.width), table[ids]), digits
        )
    assert time.perf_counter() - start < 1
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("zsl", "classes", "chance"), [(0.1, 10, True), (0.017, 50, True), (0.3, 10, False)]
)
def test_chance(zsl: float, classes: int, chance: bool) -> None:
    assert bool(near_chance(zsl, classes)) == chance
