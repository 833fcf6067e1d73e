"""What the commands take as data: objects, other attributes, the files' own validation split."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from d3_plugin import InputError
from d3_plugin.__main__ import main
from d3_plugin.data import GZSLData, digest, load
from d3_plugin.experiments import ablate, compare, parallel, tune
from d3_plugin.experiments.bench import Timing, _Timed
from d3_plugin.experiments.families import find_family
from d3_plugin.experiments.run import Outcome, execute
from d3_plugin.experiments.run_identity import Run
from tests.experiments.tiny import FLAGS, HOST, SMALL, results
from tests.toys import linear_problem

DATA = linear_problem(seen=(0, 2, 3, 5, 6, 7), unseen=(1, 4))
RUNS: dict[str, Any] = {**SMALL, "seeds": 2, "cuts": 2}


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        parallel, "execute", lambda runs, *_: pytest.fail(f"{runs[0].name} was made")
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    DATA.save(tmp_path / "toy")
    return tmp_path / "toy"


def change_splits(folder: Path, change: Callable[[dict[str, Any]], None], into: str = "") -> Path:
    """Write the splits of a folder with changes; ``into`` is the name of another file."""
    content = scipy.io.loadmat(folder / "att_splits.mat")
    change(content)
    path = folder / (into or "att_splits.mat")
    scipy.io.savemat(path, {k: v for k, v in content.items() if not k.startswith("__")})
    return path


def own_split(content: dict[str, Any]) -> None:
    """The last two seen classes are for validation; rows stand class by class, 20 of each."""
    rows = content["trainval_loc"]
    content["train_loc"], content["val_loc"] = rows[:80], rows[80:]


def test_an_object_gives_the_results_of_its_folder(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, small = load(folder), {**SMALL, "seeds": 1}
    one, two = tmp_path / "one", tmp_path / "two"
    compare("fclswgan", str(folder), one, **small)
    compare("fclswgan", data, two, **small)
    assert results(one)["runs"] == results(two)["runs"]
    monkeypatch.setattr(
        parallel, "execute", lambda runs, *_: pytest.fail(f"{runs[0].name} was made")
    )
    compare("fclswgan", data, two, **small)
    other = replace(data, attributes=data.attributes + 0.1)
    with pytest.raises(InputError, match=r"data.toy does not hold these data"):
        compare("fclswgan", other, two, **small)
    with pytest.raises(InputError, match=r"data was .*, is now"):
        compare("fclswgan", replace(other, name="../toy 2"), two, **small)
    assert sorted(path.name for path in (two / "data").iterdir()) == ["-toy-2", "toy"]


def test_all_commands_take_an_object(tmp_path: Path) -> None:
    assert "cls" in ablate("fclswgan", DATA, tmp_path, **SMALL, seeds=1).rows["fclswgan"]
    content = tune("fclswgan", DATA, str(tmp_path), **SMALL, trials=1, cuts=2).to_dict()
    assert content["tuned"]["data"] == digest(str(tmp_path / "data" / "toy"))
    timed = _Timed(Timing(find_family("fclswgan"), DATA, "cpu", HOST, None))
    assert timed.block() > 0


@pytest.mark.usefixtures("untrained")
def test_an_object_has_no_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^compare: validation is for data folders"):
        compare("fclswgan", DATA, tmp_path, validation=True, **RUNS)
    with pytest.raises(InputError, match=r"^compare: attributes are for data folders"):
        compare("fclswgan", DATA, tmp_path, attributes="sent_splits.mat", **RUNS)


def test_other_attributes(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def other(content: dict[str, Any]) -> None:
        content["att"] = content["att"][:3]

    file = change_splits(folder, other, "sent_splits.mat")
    command = ["compare", "--data", str(folder), "--seeds", "1", *FLAGS, "--out"]
    out = tmp_path / "out"
    assert main([*command, str(out), "--attributes", "sent_splits.mat"]) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["settings"]["attributes"] == "sent_splits.mat"
    assert "--attributes sent_splits.mat" in results["command"]
    capsys.readouterr()
    assert main([*command, str(out)]) == 2
    assert "made with other code or settings: data was" in capsys.readouterr().err
    assert main(["data", str(folder), "--attributes", str(file)]) == 0
    assert "attributes   width 3," in capsys.readouterr().out
    assert main([*command, str(out), "--attributes", "none.mat"]) == 2
    assert "none.mat is missing" in capsys.readouterr().err


def test_offsets_are_chosen_on_the_files_own_split(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_splits(folder, own_split)
    made = []

    def watch(runs: list[Run], *rest: Any) -> list[Outcome]:
        outcomes = execute(runs, *rest)
        for o in outcomes:
            made.append((o.run.split, o.data_name, o.evaluation.unseen_classes.tolist()))
        return outcomes

    monkeypatch.setattr(parallel, "execute", watch)
    compare("fclswgan", str(folder), tmp_path, validation=True, **RUNS)
    test, validation = ("test", "toy", [1, 4]), ("validation", "toy-val", [4, 5])
    assert sorted(made) == [test] * 4 + [validation] * 4
    with pytest.raises(InputError, match="validation was True, is now False"):
        compare("fclswgan", str(folder), tmp_path, **RUNS)
    for path in (tmp_path / "runs").glob("*-validation-*"):
        path.unlink()
    made.clear()
    compare("fclswgan", str(folder), tmp_path, **RUNS)
    assert [split for split, *_ in made] == ["validation"] * 4, "test runs are the same"


def test_tune_on_the_files_own_split(tmp_path: Path, folder: Path) -> None:
    change_splits(folder, own_split)
    made = tune("fclswgan", str(folder), tmp_path, validation=True, trials=1, cuts=2, **SMALL)
    assert made.content["tuned"]["validation"] is True
    for path in (tmp_path / "runs").iterdir():
        with np.load(path) as run:
            assert run["unseen_classes"].tolist() == [4, 5]


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("command", ["compare", "tune", "data"])
def test_a_validation_split_with_test_rows_is_refused(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """As those of the published FLO.mat are."""

    def leaking(content: dict[str, Any]) -> None:
        own_split(content)
        content["val_loc"] = content["test_seen_loc"]

    change_splits(folder, leaking)
    arguments = [command, str(folder)] if command == "data" else [command, "--data", str(folder)]
    assert main([*arguments, "--validation"]) == 2
    error = capsys.readouterr().err
    assert "val_loc contains 36 of the 36 samples of test_seen_loc; these cannot be used" in error


def test_equal_data_are_equal_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any time of the day."""
    data = GZSLData(**{**vars(DATA), "class_names": ("é", "", *DATA.class_names[2:])})
    for name in ("one", "two"):
        monkeypatch.setattr("time.asctime", lambda name=name: name)
        data.save(tmp_path / name)
    for file in ("res101.mat", "att_splits.mat"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert load(tmp_path / "two").class_names == data.class_names
