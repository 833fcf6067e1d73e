"""Runs keep their names and identities: finished ones on disk must stay usable."""

from __future__ import annotations

from dataclasses import asdict

from d3_plugin import D3Settings
from d3_plugin.experiments.plan import plan, validation_cuts
from d3_plugin.experiments.run_identity import Run

D3 = D3Settings(weight=0.5)


def run(variant: str, d3: D3Settings | None) -> Run:
    return Run("fclswgan", "CUB", "12ab", 3, variant, "test", {"lr": 0.1}, d3, 2, "cuda:1")


def test_identity_of_a_baseline() -> None:
    identity = run("baseline", None).identity()
    versions = identity.pop("versions")
    assert versions.keys() == {"d3_plugin", "torch"}
    code = identity.pop("code")
    assert {"d3_adapters.fclswgan.trainer", "d3_adapters.gan", "d3_plugin"} <= code[
        "modules"
    ].keys()
    assert code["plugins"].keys() == {"fclswgan"}
    assert identity == {
        "adapter": "fclswgan",
        "data": "12ab",
        "seed": 3,
        "variant": "baseline",
        "split": "test",
        "host": {"lr": 0.1},
        "draws": 2,
        "device": "cuda",
        "d3": None,
        "threads": 1,
        "validation": False,
    }


def test_identity_with_d3() -> None:
    with_d3, without = run("d3", D3).identity(), run("baseline", None).identity()
    assert with_d3 == {**without, "variant": "d3", "d3": asdict(D3)}


def test_names() -> None:
    assert run("baseline", None).name == "fclswgan-seed3-test-baseline"
    assert run("d3", D3).name == "fclswgan-seed3-test-d3"


def test_variants_of_a_seed_stand_together() -> None:
    variants = {"baseline": None, "d3": D3, "released": D3Settings.released()}
    runs = plan([run("", None)], 2, variants)
    assert [(r.seed, r.split, r.variant) for r in runs] == [
        (seed, "test", variant) for seed in (0, 1) for variant in variants
    ]
    assert [r.d3 for r in runs[:3]] == list(variants.values())


def test_offsets_of_a_folder_come_from_shared_cuts() -> None:
    assert validation_cuts("CUB", 4, 2) == {0: [0, 1], 1: [0, 1], 2: [0, 1], 3: [0, 1]}
    assert validation_cuts("digits-1", 2, 3) == {0: [0, 1], 1: [0, 1]}


def test_draws_of_digits_share_no_cut() -> None:
    """Training rows of one draw are test rows of another."""
    assert validation_cuts("digits", 3, 2) == {0: [0], 1: [1], 2: [2]}


def test_only_chosen_seeds_are_validated() -> None:
    runs = plan([run("", None)], 3, {"baseline": None, "d3": D3}, validated=[0])
    splits = [(run.seed, run.split) for run in runs[::2]]
    assert splits == [(0, "validation"), (0, "test"), (1, "test"), (2, "test")]
