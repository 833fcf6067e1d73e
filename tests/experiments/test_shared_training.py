"""With weight 0 one training carries the baseline and every student, and no number changes."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import d3_plugin
from d3_adapters.diffusion import DiffusionSettings
from d3_adapters.fclswgan import FCLSWGANSettings
from d3_adapters.tfvaegan import TFVAEGANSettings
from d3_plugin import D3Settings
from d3_plugin.errors import FailedRunsError
from d3_plugin.experiments import ablate, compare, parallel
from d3_plugin.experiments.checkpoint import Checkpoint
from d3_plugin.experiments.plan import trainings
from d3_plugin.experiments.run import Outcome, execute
from d3_plugin.experiments.run_identity import Run
from d3_plugin.experiments.store import RunStore
from tests.experiments.tiny import D3, HOST, SMALL

STEPS = {**HOST, "steps": 25}
HOSTS: dict[str, dict[str, Any]] = {
    "fclswgan": asdict(FCLSWGANSettings(**STEPS)),
    "tfvaegan": asdict(TFVAEGANSettings(**STEPS)),
    "diffusion": asdict(DiffusionSettings(**STEPS, blocks=1)),
}
ALL = D3Settings(**D3, weight=0)
STUDENTS = {
    "baseline": None,
    "d3": ALL,
    "cls": replace(ALL, kl_weight=0, be_weight=0, od_weight=0),
    "teacher": replace(ALL, student_start="teacher", student_lr=1e-3),
}


def planned(adapter: str) -> list[Run]:
    host = HOSTS[adapter]
    return [
        Run(adapter, "digits-2", "", 1, variant, "test", host, d3, 2, "cpu")
        for variant, d3 in STUDENTS.items()
    ]


def assert_same(one: Outcome, other: Outcome) -> None:
    assert one.run == other.run
    for name in ("scores", "host_scores", "student_scores"):
        made = getattr(one.evaluation, name), getattr(other.evaluation, name)
        np.testing.assert_array_equal(*made)
    assert one.evaluation.metrics == other.evaluation.metrics
    for name in ("history", "d3_history", "generator_mean", "projection"):
        assert getattr(one, name) == getattr(other, name), name


def test_which_runs_share_a_training() -> None:
    baseline, d3, *_ = runs = planned("fclswgan")
    reaching = replace(d3, variant="other", d3=D3Settings(weight=0.1))
    elsewhere = [replace(d3, seed=2), replace(d3, split="validation"), replace(d3, host={"a": 1})]
    made = trainings([*runs, reaching, *elsewhere, replace(baseline, seed=2)])
    assert made == [
        runs, [reaching], [elsewhere[0], replace(baseline, seed=2)], elsewhere[1:2], elsewhere[2:]
    ]  # fmt: skip


@pytest.mark.parametrize("adapter", HOSTS)
def test_a_shared_training_gives_what_trainings_of_their_own_give(adapter: str) -> None:
    runs = planned(adapter)
    shared = execute(runs)
    for run, outcome in zip(runs, shared, strict=True):
        assert_same(outcome, *execute([run]))
    metrics = {outcome.run.variant: outcome.evaluation.metrics for outcome in shared}
    assert len(set(metrics.values())) == len(STUDENTS), "all students are the same"


@pytest.mark.parametrize("adapter", ["fclswgan", "diffusion"])
def test_a_killed_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapter: str
) -> None:
    runs, store = planned(adapter), RunStore(tmp_path)
    store.prepare()
    whole = execute(runs)

    saved = Checkpoint.save

    def save(self: Checkpoint, step: int) -> None:
        if step > 14:
            raise KeyboardInterrupt
        saved(self, step)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", save)
        with pytest.raises(KeyboardInterrupt):
            execute(runs, store.checkpoint(runs), every=0.0)
    assert store.checkpoint(runs).exists()
    torch.manual_seed(9)
    for one, other in zip(whole, execute(runs, store.checkpoint(runs), every=0.0), strict=True):
        assert_same(one, other)
    others = (runs[:2], runs[:1], runs[1:])
    assert len({store.checkpoint(some) for some in (runs, *others)}) == 4


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_ablation_is_one_training_per_seed_and_the_released_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    made: list[list[str]] = []

    def watch(runs: list[Run], *rest: Any) -> list[Outcome]:
        made.append([run.variant for run in runs])
        return execute(runs, *rest)

    monkeypatch.setattr(parallel, "execute", watch)
    summary = ablate("fclswgan", "digits", tmp_path, seeds=2, jobs=jobs, **SMALL).rows["fclswgan"]
    assert len(list(tmp_path.glob("runs/*.npz"))) == 16
    same = (summary[row]["metrics"]["ausuc"]["per_seed"] for row in ("baseline", "d3_host"))
    assert len({tuple(values) for values in same}) == 1, "D³ changed the generator"
    if jobs == 1:
        assert [len(variants) for variants in made] == [7, 1, 7, 1]


def test_one_student_that_fails_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(runs: list[Run], *rest: Any) -> list[Outcome]:
        if "cls-od" in [run.variant for run in runs]:
            raise RuntimeError("NaN")
        return execute(runs, *rest)

    monkeypatch.setattr(parallel, "execute", explode)
    with pytest.raises(d3_plugin.D3Error, match=r"(?s)test-cls-od: RuntimeError: NaN") as caught:
        ablate("fclswgan", "digits", tmp_path, seeds=1, **SMALL)
    assert "cls-kl" not in str(caught.value)
    assert len(list(tmp_path.glob("runs/*.npz"))) == 7


def test_a_damaged_checkpoint_is_named_and_nothing_is_trained(tmp_path: Path) -> None:
    runs, store = planned("fclswgan"), RunStore(tmp_path)
    store.prepare()
    store.checkpoint(runs).write_bytes(b"PK\x03\x04")
    with pytest.raises(FailedRunsError, match=r"(?s)4 problems.*delete it"):
        parallel.run_all(runs, store, parallel.Workers(progress="none"))
    assert list(store.folder.glob("*.npz")) == []
    store.checkpoint(runs).unlink()
    store.checkpoint(runs[:2]).write_bytes(b"of an earlier command that had other runs")
    assert len(parallel.run_all(runs, store, parallel.Workers(progress="none"))) == 4
    assert list(store.folder.glob("*.pt")) == []


def test_a_run_made_alone_is_kept_when_the_next_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training that they would have shared has failed."""

    def failing(runs: list[Run], *rest: Any) -> list[Outcome]:
        if len(runs) > 1:
            raise RuntimeError("together")
        if runs[0].variant == "d3":
            raise KeyboardInterrupt
        return execute(runs, *rest)

    monkeypatch.setattr(parallel, "execute", failing)
    with pytest.raises(KeyboardInterrupt):
        compare("fclswgan", "digits-2", tmp_path, seeds=1, **SMALL)
    (kept,) = tmp_path.glob("runs/*.npz")
    assert kept.name == "fclswgan-seed0-validation-baseline.npz"
