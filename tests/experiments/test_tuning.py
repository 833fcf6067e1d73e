"""``tune``: nothing is chosen on test rows, and both sides get the same chance."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from d3_adapters.fclswgan import FCLSWGANSettings
from d3_plugin import InputError
from d3_plugin.data import GZSLData, load, without_test_rows
from d3_plugin.evaluation.result import Evaluation
from d3_plugin.experiments import parallel, training, tune
from d3_plugin.experiments.families import find_family
from d3_plugin.experiments.run import Outcome, execute
from d3_plugin.experiments.run_identity import Run
from d3_plugin.experiments.training import load_problem
from d3_plugin.hosts.host import HostFamily
from tests.experiments.tiny import D3, HOST, SMALL

TINY: dict[str, Any] = {"trials": 3, "cuts": 2, **SMALL}


def garbled(spec: str, **_: Any) -> GZSLData:
    """Test rows that are noise, far off, with labels in another order."""
    data = load(spec)
    rng = torch.Generator().manual_seed(0)
    changes = {}
    for part in ("test_seen", "test_unseen"):
        features, labels = getattr(data, f"{part}_features"), getattr(data, f"{part}_labels")
        changes[f"{part}_features"] = 1e6 * torch.randn(features.shape, generator=rng)
        changes[f"{part}_labels"] = labels[torch.randperm(len(labels), generator=rng)]
    return replace(data, **changes)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("tune")
    return out, tune("fclswgan", "digits-0", out, **TINY).content


def test_what_is_written(tuned: tuple[Path, dict[str, Any]]) -> None:
    out, content = tuned
    assert json.loads((out / "tuned.json").read_text()) == content
    report = content["tuned"]
    assert len(report["baseline"]) == len(report["d3"]) == 3
    for side, fixed in (("baseline", HOST), ("d3", D3)):
        assert report[side][0]["changes"] == {}
        assert all(not trial["changes"].keys() & fixed for trial in report[side])
        assert all(len(trial["per_cut"]) == 2 for trial in report[side])
    chosen = report["baseline"][report["chosen"]["baseline"]]
    assert content["host"] == {**HOST, **chosen["changes"]}
    chosen = report["d3"][report["chosen"]["d3"]]
    assert content["d3"] == {**D3, **chosen["changes"]}
    assert chosen["ausuc"] == max(trial["ausuc"] for trial in report["d3"])


def test_test_rows_change_nothing(
    tuned: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not only the choice: every number of every trial stays the same."""
    made: list[Run] = []

    def watch(runs: list[Run], *rest: Any) -> list[Outcome]:
        made.extend(runs)
        return execute(runs, *rest)

    monkeypatch.setattr(parallel, "execute", watch)
    monkeypatch.setattr(training, "load", garbled)
    assert tune("fclswgan", "digits-0", tmp_path, **TINY).content == tuned[1]
    assert {run.split for run in made} == {"validation"}
    baseline, d3 = ([r for r in made if (r.d3 is None) == side] for side in (True, False))
    cuts = [sorted(run.seed for run in runs) for runs in (baseline, d3)]
    assert cuts == [[0, 0, 0, 1, 1, 1]] * 2, "not the same budget"
    assert all({**run.host, **tuned[1]["host"]} == run.host for run in d3), "another baseline"


def leaking(monkeypatch: pytest.MonkeyPatch, door: Callable[..., GZSLData]) -> list[Evaluation]:
    """A "validation" run that scores on test rows, on the data as they are and garbled."""
    monkeypatch.setattr(training, "pseudo_unseen", lambda data, seed: data)
    monkeypatch.setattr(training, "without_test_rows", door)
    settings = asdict(FCLSWGANSettings(**HOST))
    run = Run("fclswgan", "digits-0", "", 0, "leak", "validation", settings, None, 1, "cpu")
    made = []
    for source in (load, garbled):
        monkeypatch.setattr(training, "load", source)
        made.append(execute([run])[0].evaluation)
    return made


def test_a_leak_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, with_garbage = leaking(monkeypatch, lambda data: data)
    assert plain.metrics != with_garbage.metrics


def test_behind_the_door_there_is_nothing_to_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, with_garbage = leaking(monkeypatch, without_test_rows)
    assert plain.metrics == with_garbage.metrics


def test_validation_runs_of_a_comparison_have_no_test_rows_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run("fclswgan", "digits-1", "", 0, "baseline", "validation", {}, None, 1, "cpu")
    before = load_problem(run)
    monkeypatch.setattr(training, "load", garbled)
    assert torch.equal(before.test_unseen_features, load_problem(run).test_unseen_features)


def test_a_second_start_uses_what_is_there(
    tuned: tuple[Path, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, content = tuned
    monkeypatch.setattr(
        parallel, "execute", lambda runs, *rest: pytest.fail(f"{runs[0].name} made again")
    )
    again = tune("fclswgan", "digits-0", out, **TINY)
    assert again.content == again.to_dict() == content
    assert (again.host, again.d3, again.file) == (
        content["host"],
        content["d3"],
        out / "tuned.json",
    )
    areas = (content["tuned"][side] for side in ("baseline", "d3"))
    baseline, d3 = (max(trial["ausuc"] for trial in trials) for trials in areas)
    assert f"chosen baseline, on the cuts: {d3 - baseline:+.2%}" in repr(again)


def test_a_diverging_trial_is_not_chosen_and_common_trials_are_shared(
    tuned: tuple[Path, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Another search in the same folder: its first trial is known, and another one fails."""
    out = tmp_path / "copy"
    shutil.copytree(tuned[0], out)

    def diverge(runs: list[Run], *rest: Any) -> list[Outcome]:
        run = runs[0]
        assert run.d3 is not None or run.host["lr"] != 3e-4, "made again"
        if run.d3 is None and run.host["lr"] == 1e-3:
            raise InputError("scores contain NaN or Inf")
        return execute(runs, *rest)

    monkeypatch.setattr(parallel, "execute", diverge)
    host = {**HOST, "classifier_lr": 1e-3}
    content = tune("fclswgan", "digits-0", out, **{**TINY, "host": host, "trials": 3}).content
    failed = [t for t in content["tuned"]["baseline"] if t["ausuc"] is None]
    assert [t["changes"] for t in failed] == [{"lr": 1e-3}]
    assert content["host"].get("lr") != 1e-3
    assert "scores contain NaN" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"data": "digits"}, "use digits-0"),
        ({"cuts": 1}, "cuts must be at least 2"),
        ({"trials": 0}, "trials must be an int, 1 to 10000, got 0"),
        ({"d3": {"wieght": 1}}, "no setting 'wieght'"),
        ({"adapter": "all"}, "one adapter at a time"),
        ({"cuts": 1, "seed": -1, "device": "tpu", "host": {"stepz": 1}}, "tune: 4 problems"),
    ],
)
def test_bad_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], match: str
) -> None:
    monkeypatch.setattr(parallel, "execute", lambda runs, *rest: pytest.fail("training started"))
    with pytest.raises(InputError, match=match):
        tune(**{"data": "digits-0", "out": tmp_path, **TINY, **changes})


def test_a_plugin_with_a_search_space_of_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = replace(find_family("fclswgan"), search={"learning_rate": [1.0]})

    def find(name: str) -> HostFamily:
        return family

    monkeypatch.setattr("d3_plugin.experiments.options.find_family", find)
    with pytest.raises(InputError, match="no setting 'learning_rate'"):
        tune("fclswgan", "digits-0", tmp_path, **TINY)


def test_a_start_is_searched_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Run] = []

    def stop(runs: list[Run], *rest: Any) -> list[Outcome]:
        made.extend(runs)
        raise KeyboardInterrupt

    monkeypatch.setattr(parallel, "execute", stop)
    path = tmp_path / "start.json"
    path.write_text('{"adapter": "fclswgan", "host": {"lr": 7e-4, "steps": 99}}')
    with pytest.raises(KeyboardInterrupt):
        tune(None, "digits-0", tmp_path, settings=path, **TINY)
    assert (made[0].host["lr"], made[0].host["steps"]) == (7e-4, 3)
