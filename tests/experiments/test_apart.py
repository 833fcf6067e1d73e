"""A training carries the baseline and D³ only where it is proved that D³ changes nothing."""

from __future__ import annotations

import random
import warnings
from dataclasses import asdict

import numpy as np
import pytest
import torch

from d3_plugin import D3Settings, D3Warning
from d3_plugin.experiments import unchanged_training
from d3_plugin.experiments.families import find_family
from d3_plugin.experiments.run import Outcome, execute
from d3_plugin.experiments.run_identity import Run
from tests.experiments.spoiled_hosts import COUNTERS, Settings, family
from tests.experiments.tiny import D3, HOST

PROVED = unchanged_training._proved  # in a process of its own
IDIOMS = [
    *("stream of its own", "loader thread", "weight changed in forward"),
    *(
        pytest.param(idiom, marks=pytest.mark.slow)
        for idiom in (
            *("hook on the generator", "pool of noise", "replay", "counter of calls"),
            "attributes changed in place",
        )
    ),
]


def planned(idiom: str) -> list[Run]:
    host, variants = asdict(Settings(idiom)), {"baseline": None, "d3": D3Settings(**D3)}
    return [
        Run("spoiled", "digits-1", "", 0, v, "test", host, d3, 1, "cpu", family=find_family(family))
        for v, d3 in variants.items()
    ]


def assert_same(one: Outcome, other: Outcome) -> None:
    assert one.history == other.history
    np.testing.assert_array_equal(one.evaluation.scores, other.evaluation.scores)


@pytest.mark.filterwarnings("ignore:D³'s calls of the generator run hooks")
@pytest.mark.parametrize("idiom", IDIOMS)
def test_baseline_is_the_scripts_own(idiom: str) -> None:
    baseline, d3 = runs = planned(idiom)
    with pytest.warns(D3Warning, match="spoiled: the baseline is trained apart from D³") as caught:
        made = execute(runs)
    reason = "starts threads" if idiom == "loader thread" else "D³ at weight 0 changes"
    assert reason in "".join(str(each.message) for each in caught)
    (alone,) = execute([baseline])
    assert_same(made[0], alone)
    assert made[1].run == d3


@pytest.mark.parametrize("counter", COUNTERS)
def test_calls_that_are_counted_for_later(counter: str) -> None:
    assert "D³ at weight 0 changes" in unchanged_training.why_apart(planned(counter))


def test_an_ordinary_host_is_shared_and_the_proof_moves_no_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unchanged_training, "_proved", PROVED)

    def streams() -> list[float]:
        states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
        drawn = [torch.rand(1).item(), np.random.random(), random.random()]  # noqa: NPY002
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])
        return drawn

    runs, before = planned("plain"), streams()
    assert unchanged_training.why_apart(runs) == ""
    assert streams() == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shared = execute(runs)
    assert_same(shared[0], *execute(runs[:1]))
    assert shared[0].generator_mean == shared[1].generator_mean


def test_built_in_families_need_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unchanged_training, "_proved", lambda runs: pytest.fail("proved"))
    variants = {"baseline": None, "d3": D3Settings(**D3)}
    for adapter in ("fclswgan", "tfvaegan", "diffusion"):
        runs = [
            Run(adapter, "digits-1", "", 0, variant, "test", HOST, d3, 1, "cpu")
            for variant, d3 in variants.items()
        ]
        assert unchanged_training.why_apart(runs) == ""
