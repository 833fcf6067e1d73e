"""What is tried, and which trial wins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from d3_adapters.fclswgan import FCLSWGANSettings
from d3_plugin import D3Error, D3Settings
from d3_plugin.experiments.families import find_family, host_settings
from d3_plugin.experiments.tuning import D3_SEARCH, Trial, best, judge, sample
from tests.experiments.tiny import outcome

SPACE = {"lr": [0.1, 0.2], "epochs": [1, 2, 3]}


@dataclass(frozen=True)
class Settings:
    lr: float = 0.1
    epochs: int = 2


def trial(ausuc: float | None, harmonic: float = 0.0) -> Trial:
    return {"changes": {}, "ausuc": ausuc, "harmonic": harmonic}


def test_the_first_trial_changes_nothing_and_none_comes_twice() -> None:
    changes = sample(SPACE, 6, 0, Settings(), [])
    assert changes[0] == {}
    full = {tuple(sorted(({"lr": 0.1, "epochs": 2} | c).items())) for c in changes}
    assert len(full) == len(changes) == 6


def test_as_many_as_asked_for_and_the_same_for_the_same_seed() -> None:
    for trials in range(1, 7):
        assert len(sample(SPACE, trials, 0, Settings(), [])) == trials
    one, other, third = (sample(D3_SEARCH, 8, seed, D3Settings(), []) for seed in (1, 1, 2))
    assert one == other != third


def test_a_weight_without_effect_makes_no_other_trial() -> None:
    space = {k: D3_SEARCH[k] for k in ("final_classifier", "ensemble_weight")}
    changes = sample(space, 12, 0, D3Settings(), [])
    assert len(changes) == len(D3_SEARCH["ensemble_weight"]) + 2
    assert all("ensemble_weight" not in c for c in changes if "final_classifier" in c)
    alone = sample(space, 12, 0, D3Settings(final_classifier="host"), ["final_classifier"])
    assert alone == [{}]


def test_a_small_space_is_searched_whole() -> None:
    assert len(sample(SPACE, 50, 0, Settings(), [])) == 6
    assert sample({}, 50, 0, Settings(), []) == [{}]


def test_given_settings_are_left_alone() -> None:
    changes = sample(SPACE, 6, 0, Settings(), ["lr"])
    assert [c.keys() <= {"epochs"} for c in changes] == [True, True, True]


def test_every_value_tried_is_valid() -> None:
    for name, values in D3_SEARCH.items():
        for value in values:
            assert getattr(D3Settings(**{name: value}), name) == value
    for adapter in ("diffusion", "fclswgan", "tfvaegan"):
        family = find_family(adapter)
        assert {"synthetic_per_class", "classifier_epochs", "classifier_lr"} <= family.search.keys()
        for name, values in family.search.items():
            assert len(values) > 1
            for value in values:
                assert getattr(host_settings(family, {name: value}), name) == value
    assert FCLSWGANSettings().lr in find_family("fclswgan").search["lr"]


@pytest.mark.parametrize(
    ("trials", "expected"),
    [
        ([trial(0.5), trial(0.6), trial(0.4)], 1),
        ([trial(0.5, 0.9), trial(0.6, 0.1)], 1),
        ([trial(0.5, 0.1), trial(0.50001, 0.3), trial(0.5, 0.2)], 1),
        ([trial(0.5, 0.3), trial(0.50004, 0.2)], 0),
        ([trial(0.5, 0.3), trial(0.5, 0.3)], 0),
        ([trial(0.1), trial(None), trial(0.2)], 2),
    ],
)
def test_area_first_then_harmonic_mean(trials: list[Trial], expected: int) -> None:
    assert best(trials) == expected


def test_nothing_to_compare_with() -> None:
    with pytest.raises(D3Error, match="changes nothing failed"):
        best([trial(None), trial(0.5)])


def test_a_constant_cannot_win() -> None:
    """The same scores with less bias have a higher H, and lose to a higher area."""
    biased, unbiased = (judge({}, [outcome(0, bias=b), outcome(1, bias=b)]) for b in (2.0, 0.5))
    assert unbiased["harmonic"] > biased["harmonic"] + 0.05
    assert unbiased["ausuc"] == pytest.approx(biased["ausuc"], abs=1e-6)
    better = {**biased, "ausuc": biased["ausuc"] + 0.001}
    assert best([unbiased, better]) == 1


def test_means_over_cuts_and_failed_runs() -> None:
    one, other = outcome(0), outcome(1)
    made: dict[str, Any] = judge({"lr": 1}, [one, other])
    areas = [o.evaluation.metrics.ausuc for o in (one, other)]
    assert made["per_cut"] == areas
    assert made["ausuc"] == pytest.approx(sum(areas) / 2)
    assert judge({"lr": 1}, [one, None])["ausuc"] is None


def test_values_equal_to_the_start_are_no_change() -> None:
    start = replace(Settings(), epochs=3)
    assert all(c.get("epochs") != 3 for c in sample(SPACE, 6, 0, start, []))


def test_every_default_of_d3_is_among_what_is_tried() -> None:
    """Or every random trial would change it."""
    for name, values in D3_SEARCH.items():
        assert getattr(D3Settings(), name) in values, name
