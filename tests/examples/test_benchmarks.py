"""Settings files of the benchmarks: complete, right, and they run on data of their shape."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import scipy.io

from d3_plugin import D3Settings
from d3_plugin.experiments.families import find_family, host_settings
from d3_plugin.experiments.run import execute
from d3_plugin.experiments.run_identity import Run
from d3_plugin.experiments.settings_file import read_settings
from tests.data.test_matfolder import stand_in

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "benchmarks"
DATA_SETS = ("CUB", "AWA2", "FLO", "SUN", "APY")
ADAPTERS = ("fclswgan", "tfvaegan", "diffusion")
ALL = pytest.mark.parametrize("adapter", ADAPTERS)

#: Epochs of Xian et al.'s scripts (AWA2 and APY: those of AWA1), of ours for the diffusion.
EPOCHS = {
    "fclswgan": {"CUB": 56, "AWA2": 30, "FLO": 80, "SUN": 40, "APY": 30},
    "diffusion": dict.fromkeys(DATA_SETS, 35),
}
#: Synthetic rows per class, learning rate, weight of the classification loss.
PUBLISHED = {
    "CUB": (300, 1e-4, 0.01),
    "AWA2": (1800, 1e-5, 0.01),
    "FLO": (1200, 1e-4, 0.1),
    "SUN": (400, 2e-4, 0.01),
    "APY": (1800, 1e-5, 0.01),
}

#: The authors' scripts for TF-VAEGAN (APY: those for AWA2).
EPOCHS_TFVAEGAN = {"CUB": 300, "AWA2": 120, "FLO": 500, "SUN": 400, "APY": 120}
SAME_TFVAEGAN = {
    "batch_size": 64, "hidden": 4096, "noise_dim": None, "attribute_norm": 1.0, "loops": 2,
    "critic_steps": 5, "gradient_penalty": 10.0, "decoder_lr": 1e-4, "classifier_epochs": 25,
}  # fmt: skip
DIFFERENT_TFVAEGAN = (
    *("lr", "feedback_lr", "feedback_training", "feedback_synthesis", "encoded_noise"),
    *("adversarial_weight", "attribute_weight", "freeze_decoder"),
    *("synthetic_per_class", "classifier_lr"),
)
AWA2 = (1e-5, 1e-4, 0.01, 0.01, True, 10.0, 0.1, True, 1800, 1e-3)
PUBLISHED_TFVAEGAN = {
    "CUB": (1e-4, 1e-5, 1.0, 1.0, True, 10.0, 0.01, False, 300, 1e-3),
    "AWA2": AWA2,
    "FLO": (1e-4, 1e-5, 0.5, 0.5, False, 10.0, 0.01, False, 1200, 1e-3),
    "SUN": (1e-3, 1e-4, 0.1, 0.01, True, 1.0, 0.01, False, 400, 5e-4),
    "APY": AWA2,
}


def test_there_is_a_file_for_each() -> None:
    expected = {f"{data}-{adapter}.json" for data in DATA_SETS for adapter in ADAPTERS}
    assert {path.name for path in FOLDER.glob("*.json")} == expected


@ALL
@pytest.mark.parametrize("name", DATA_SETS)
def test_settings_exist_and_say_where_they_are_from(name: str, adapter: str) -> None:
    path = FOLDER / f"{name}-{adapter}.json"
    file = read_settings(path)
    assert file.adapter == adapter
    host_settings(find_family(adapter), file.host)
    D3Settings(**file.d3)
    note = json.loads(path.read_text())["note"]
    assert ("Nothing is published" in note) == (
        adapter == "diffusion" or name == "APY" or (name, adapter) == ("AWA2", "fclswgan")
    )
    if adapter == "fclswgan":
        assert file.host.keys() == {f.name for f in fields(find_family(adapter).settings)}
        values = ("synthetic_per_class", "lr", "classification_weight")
        assert tuple(file.host[v] for v in values) == PUBLISHED[name]
        assert (file.host["hidden"], file.host["attribute_norm"]) == (4096, None)
    if adapter == "tfvaegan":
        different = dict(zip(DIFFERENT_TFVAEGAN, PUBLISHED_TFVAEGAN[name], strict=True))
        assert file.host == {"steps": file.host["steps"], **SAME_TFVAEGAN, **different}
        assert file.host.keys() == {f.name for f in fields(find_family(adapter).settings)}


@pytest.mark.parametrize("name", DATA_SETS)
def test_steps_are_epochs_on_the_official_split(name: str, shared_data: Path) -> None:
    splits = shared_data / "att_splits" / f"{name}.mat"
    if not splits.is_file():
        pytest.skip(f"no att_splits/{name}.mat in the real data")
    rows = scipy.io.loadmat(splits, variable_names=["trainval_loc"])["trainval_loc"].size
    for adapter, epochs in EPOCHS.items():
        host = read_settings(FOLDER / f"{name}-{adapter}.json").host
        assert host["steps"] == epochs[name] * -(-rows // 64)
    host = read_settings(FOLDER / f"{name}-tfvaegan.json").host
    assert host["steps"] == EPOCHS_TFVAEGAN[name] * 2 * -(-rows // 64), "two passes an epoch"


@pytest.mark.slow
@ALL
@pytest.mark.parametrize("name", DATA_SETS)
@pytest.mark.filterwarnings("ignore::d3_plugin.errors.D3Warning")  # FLO's train_loc has test rows
def test_every_file_trains(name: str, adapter: str, shared_data: Path, tmp_path: Path) -> None:
    """A few steps, narrow, on the real split and attributes with features out of thin air."""
    folder, _ = stand_in(shared_data, name, tmp_path)
    file = read_settings(FOLDER / f"{name}-{adapter}.json")
    small = {"steps": 3, "hidden": 8, "synthetic_per_class": 20, "classifier_epochs": 1}
    host = asdict(host_settings(find_family(adapter), {**file.host, **small}))
    d3 = D3Settings(**{**file.d3, "embedding_dim": 8, "teacher_epochs": 1})
    (outcome,) = execute([Run(adapter, str(folder), "", 0, "d3", "test", host, d3, 1, "cpu")])
    assert outcome.evaluation.scores.shape[2] == len(outcome.evaluation.seen_classes) + len(
        outcome.evaluation.unseen_classes
    )
    assert outcome.generator_mean != outcome.generator_start


def test_the_script_names_files_that_exist(tmp_path: Path) -> None:
    program = tmp_path / "d3"
    program.write_text('#!/usr/bin/env bash\necho "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        [str(FOLDER / "run.sh"), "SUN", "--jobs", "2"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "D3_DATA": "/data"},
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [Path(line[2]).name for line in lines] == [f"SUN-{a}.json" for a in ADAPTERS]
    for line in lines:
        assert Path(line[2]).is_file()
        assert line[:2] == ["compare", "--settings"]
        assert line[line.index("--data") + 1] == "/data/SUN"
        assert line[-2:] == ["--jobs", "2"]
