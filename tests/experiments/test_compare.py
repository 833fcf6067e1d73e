"""``compare`` from planning to the report, on tiny runs."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from d3_adapters.fclswgan import FCLSWGANSettings
from d3_plugin import D3Error, D3Settings, InputError, PluginError, StorageError
from d3_plugin.errors import DataError
from d3_plugin.experiments import CompareOptions, compare, parallel
from d3_plugin.experiments import run as run_module
from d3_plugin.experiments.families import find_family
from d3_plugin.experiments.parallel import Workers, run_all
from d3_plugin.experiments.plan import plan
from d3_plugin.experiments.run import Outcome, execute
from d3_plugin.experiments.run_identity import Run, checkpoint_name, training_part
from d3_plugin.experiments.store import RunStore
from d3_plugin.files import write_atomically
from tests.experiments.tiny import D3, HOST, SMALL, outcome

TINY: dict[str, Any] = {**SMALL, "seeds": 2, "draws": 2, "name": "first try"}
D3_TINY = D3Settings(**D3)


def planned() -> list[Run]:
    """The runs that TINY consists of."""
    host = asdict(FCLSWGANSettings(**HOST))
    first = Run("fclswgan", "digits", "", 0, "", "test", host, None, 2, "cpu")
    return plan([first], 2, {"baseline": None, "d3": D3_TINY}, validated=[0, 1])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compare")
    compare("fclswgan", "digits", out, **TINY)
    return out


def test_results_name_everything(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    assert results["settings"]["name"] == "first try"
    assert "--name 'first try'" in results["command"]
    assert "<h1>first try</h1>" in (finished / "report.html").read_text("utf-8")
    host = results["settings"]["hosts"]["fclswgan"]
    assert (host["steps"], host["batch_size"]) == (3, 64), "defaults belong to the settings too"
    assert results["settings"]["d3"]["embedding_dim"] == 8
    assert {"torch", "numpy", "d3_plugin", "scikit-learn", "python"} == results["versions"].keys()
    keys = [(r["seed"], r["split"], r["variant"]) for r in results["runs"]]
    assert sorted(keys) == [
        (seed, split, variant)
        for seed in (0, 1)
        for split in ("test", "validation")
        for variant in ("baseline", "d3")
    ]
    assert [r["data"] for r in results["runs"] if r["split"] == "test"] == [
        "digits-0", "digits-0", "digits-1", "digits-1"
    ]  # fmt: skip
    assert all(r["history"] and r["seconds"] > 0 for r in results["runs"])
    for run, made in RunStore(finished).load_all(planned()).items():
        (entries,) = (
            r["history"]
            for r in results["runs"]
            if run == f"{r['adapter']}-seed{r['seed']}-{r['split']}-{r['variant']}"
        )
        for shown, entry in zip(entries, made.history, strict=True):
            assert shown == pytest.approx(entry, rel=1e-4)
            assert shown["step"] == entry["step"]


def test_runs_are_paired(finished: Path) -> None:
    """Same data, noise and batches, and so the same generator at the end."""
    runs = planned()
    store = RunStore(finished)
    for baseline, d3 in zip(runs[::2], runs[1::2], strict=True):
        assert (baseline.seed, baseline.split) == (d3.seed, d3.split)
        one, other = store.load(baseline), store.load(d3)
        assert one is not None
        assert other is not None
        assert np.array_equal(one.evaluation.labels, other.evaluation.labels)
        assert one.history[0] == other.history[0], "not the same start"
        assert one.generator_start == other.generator_start
        assert one.generator_mean == other.generator_mean, "weight is 0 by default"


def test_finished_runs_are_not_made_again(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = json.loads((finished / "results.json").read_text())
    monkeypatch.setattr(
        parallel, "execute", lambda runs, *rest: pytest.fail(f"{runs[0].name} was run again")
    )
    compare("fclswgan", "digits", finished, **TINY)
    assert "8 runs, 8 of them finished earlier" in capsys.readouterr().out
    assert json.loads((finished / "results.json").read_text()) == before


def test_resume_makes_only_what_is_missing(finished: Path) -> None:
    runs = planned()
    store = RunStore(finished)
    kept = store.path(runs[0]).stat().st_mtime_ns
    before = store.load(runs[5])
    store.path(runs[5]).unlink()
    compare("fclswgan", "digits", finished, **TINY)
    after = store.load(runs[5])
    assert before is not None
    assert after is not None
    assert np.array_equal(before.evaluation.scores, after.evaluation.scores), "not reproducible"
    assert store.path(runs[0]).stat().st_mtime_ns == kept


def test_other_settings_in_the_same_folder_are_refused(finished: Path) -> None:
    changed = {**TINY, "host": {**HOST, "steps": 5}}
    with pytest.raises(InputError, match=r"steps was 3, is now 5.*another --out"):
        compare("fclswgan", "digits", finished, **changed)


def test_damaged_run_is_named(tmp_path: Path) -> None:
    run = planned()[0]
    store = RunStore(tmp_path)
    store.folder.mkdir()
    store.path(run).write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(DataError, match=rf"{run.name}.npz is damaged.*delete it"):
        store.load(run)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"seeds": 0, "cuts": 0, "data": "imagenet", "d3": {"wieght": 1}}, "compare: 4 problems"),
        (
            {"host": {"stepz": 3, "lr": "high"}},
            r"(?s)2 problems.*'stepz'.*lr must be a finite number.*'high'",
        ),
        ({"host": {"steps": -5}}, "steps must be an int, at least 1"),
        ({"device": "tpuu"}, "tpuu"),
        ({"data": "imagenet"}, "imagenet"),
        ({"device": "cuda"}, "there is cpu"),
        ({"device": "mps"}, "there is cpu"),
        ({"device": "gpu"}, "'gpu' cannot be used here; there is cpu"),
    ],
)
def test_bad_options_fail_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], match: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(parallel, "execute", lambda runs, *rest: pytest.fail("training started"))
    with pytest.raises((InputError, DataError), match=match):
        compare(**{"data": "digits", "out": tmp_path, **TINY, **changes})


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match=r"cannot write .*runs"):
        compare("fclswgan", "digits", tmp_path, **TINY)


def test_a_failing_run_is_named_and_the_others_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(runs: list[Run], *rest: Any) -> list[Outcome]:
        if runs[0].seed == 0 and "d3" in [run.variant for run in runs]:
            raise RuntimeError(f"out of memory on {runs[0].split}")
        return execute(runs, *rest)

    monkeypatch.setattr(parallel, "execute", explode)
    with pytest.raises(
        D3Error, match=r"(?s)2 problems.*seed0-validation-d3: RuntimeError.*on test"
    ):
        compare("fclswgan", "digits", tmp_path, **TINY)
    assert len(list(tmp_path.glob("runs/*.npz"))) == 6
    monkeypatch.undo()
    compare("fclswgan", "digits", tmp_path, **TINY)
    assert (tmp_path / "report.html").exists()


def test_a_family_whose_build_exits_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: Any) -> Any:
        raise SystemExit(3)

    family = replace(find_family("fclswgan"), build=build)
    monkeypatch.setattr(run_module, "find_family", lambda name: family)
    with pytest.raises(PluginError, match=r"'fclswgan' \(.*test_compare\) exits: 3"):
        execute([planned()[0]])


@pytest.mark.parametrize("kind", ["both", "student", "host"])
def test_another_weight_and_offset_score_a_finished_run_again(tmp_path: Path, kind: str) -> None:
    """Scored again from the file they are what the training itself would have scored."""
    first = replace(planned()[-1], d3=replace(D3_TINY, final_classifier=kind))
    other = replace(first, d3=replace(first.d3, ensemble_weight=1.5, seen_offset=0.1))
    store, elsewhere = RunStore(tmp_path / "a"), RunStore(tmp_path / "b")
    for folder, run in ((store, first), (elsewhere, other)):
        folder.prepare()
        folder.save(*execute([run]))
    made, again = store.load(other), elsewhere.load(other)
    assert made is not None
    assert again is not None
    assert (made.evaluation.scores == again.evaluation.scores).all()
    assert made.evaluation.metrics == again.evaluation.metrics
    plain = store.load(first)
    assert plain is not None
    assert (plain.evaluation.scores == made.evaluation.scores).all() == (kind == "host")
    with pytest.raises(InputError, match=r"d3: weight was 0\.0, is now 0\.3;"):
        store.load(replace(other, d3=replace(other.d3, weight=0.3)))


def test_another_offset_trains_nothing(
    finished: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    shutil.copytree(finished, out)
    before = json.loads((out / "results.json").read_text())["summary"]["fclswgan"]
    monkeypatch.setattr(
        parallel, "execute", lambda runs, *rest: pytest.fail(f"{runs[0].name} was run again")
    )
    changed = {**TINY, "d3": {**D3, "seen_offset": 9.0}}
    summary = compare("fclswgan", "digits", out, **changed).rows["fclswgan"]
    assert summary["d3"]["metrics"]["seen"]["per_seed"] == [0, 0]
    assert summary["baseline"] == before["baseline"]
    for metric in ("unseen", "seen", "harmonic"):
        one, two = (table["d3_plain"]["metrics"][metric] for table in (summary, before))
        assert one["per_seed"] == pytest.approx(two["per_seed"], abs=1e-6)


def test_a_training_under_way_goes_on_with_another_offset(tmp_path: Path) -> None:
    run = planned()[-1]
    other = replace(run, d3=replace(run.d3, seen_offset=0.1))
    assert run.identity() != other.identity()
    assert training_part(run.identity()) == training_part(other.identity())
    assert checkpoint_name([run]) == checkpoint_name([other])
    others = [replace(run, seed=5)], [replace(run, d3=replace(run.d3, cls_weight=2.0))]
    assert len({checkpoint_name(some) for some in ([run], [run, run], *others)}) == 4
    baseline = planned()[0]
    assert training_part(baseline.identity()) == json.loads(json.dumps(baseline.identity()))


def test_a_file_without_the_student_is_not_scored_again(finished: Path, tmp_path: Path) -> None:
    run = planned()[-1]
    outcome = RunStore(finished).load(run)
    assert outcome is not None
    store = RunStore(tmp_path)
    store.prepare()
    store.save(replace(outcome, evaluation=replace(outcome.evaluation, student_scores=None)))
    assert store.load(run) is not None
    why = r"seen_offset was 0\.35, is now 0\.1.*no scores of the student"
    with pytest.raises(InputError, match=why):
        store.load(replace(run, d3=replace(run.d3, seen_offset=0.1)))


def test_runs_of_another_data_folder_or_version_are_not_mixed() -> None:
    run = planned()[0]
    assert replace(run, data_digest="1").identity() != replace(run, data_digest="2").identity()
    moved = replace(run, data="elsewhere/CUB", data_digest="1")
    assert moved.identity() == replace(run, data="CUB", data_digest="1").identity()
    assert replace(run, device="cuda:0").identity() == replace(run, device="cuda:1").identity()
    assert replace(run, device="cuda").identity() != run.identity()
    assert "torch" in run.identity()["versions"]


def test_two_jobs_give_the_same_results(finished: Path, tmp_path: Path) -> None:
    """To the last bit, and so in the threads of a run."""
    compare("fclswgan", "digits", tmp_path, jobs=2, **TINY)
    for run in planned():
        one, two = (RunStore(out).load(run) for out in (finished, tmp_path))
        assert one is not None
        assert two is not None
        assert np.array_equal(one.evaluation.scores, two.evaluation.scores)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_has_its_own_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """Not that of the process that makes it, which it leaves as it was."""
    seen = set()

    def watch(runs: list[Run], *rest: Any) -> list[Outcome]:
        seen.add(torch.get_num_threads())
        return [replace(outcome(0), run=run) for run in runs]

    monkeypatch.setattr(parallel, "execute", watch)
    more = {} if threads == 1 else {"threads": threads}
    (run,) = CompareOptions("fclswgan", "digits-2", tmp_path, **more).first_runs()
    before, store = torch.get_num_threads(), RunStore(tmp_path)
    torch.set_num_threads(3)
    try:
        run_all([run], store, Workers(progress="none"))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert seen == {threads}
    with pytest.raises(InputError, match="threads was"):
        store.load(replace(run, threads=3 - threads))


def test_atomic_write_leaves_the_old_file_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full_disk(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
