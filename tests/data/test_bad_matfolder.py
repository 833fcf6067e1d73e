"""Every kind of bad folder gets one error that lists everything wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from tests.data.mat_folders import (
    ATT,
    BOTH,
    RES,
    SETS,
    Variables,
    index,
    make,
    problems_of,
)


def test_no_folder_and_a_file(tmp_path: Path) -> None:
    (only,) = problems_of(tmp_path / "none")
    assert only == "does not exist; give the folder with res101.mat and att_splits.mat"
    (tmp_path / "file.mat").write_bytes(b"x")
    assert problems_of(tmp_path / "file.mat")[0].startswith("is a file; give the folder")


def test_missing_files(tmp_path: Path) -> None:
    assert problems_of(tmp_path) == [
        "res101.mat is missing; expected a .mat file with features, labels",
        "att_splits.mat is missing; expected a .mat file with att, trainval_loc, test_seen_loc, "
        "test_unseen_loc",
    ]


@BOTH
@pytest.mark.parametrize("key", ["features", "labels", "att", *SETS])
def test_missing_key(tmp_path: Path, key: str, version: str) -> None:
    def change(res: Variables, att: Variables) -> None:
        holder = res if key in res else att
        holder["other"] = holder.pop(key)

    (only,) = problems_of(make(tmp_path, change, version))
    assert f"has no variable {key!r}, it has [" in only
    assert "'other'" in only


@BOTH
@pytest.mark.parametrize("name", [RES, ATT])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9])
def test_truncated(tmp_path: Path, version: str, name: str, keep: float) -> None:
    folder = make(tmp_path, version=version)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(keep * len(content))])
    found = problems_of(folder)
    assert all(problem.startswith(name) for problem in found)
    assert "cannot be read as a MATLAB file" in found[0] or "has no variable" in found[0]


@pytest.mark.parametrize("content", [b"not a mat file\n" * 100, bytes(600), b"\xff" * 600, b"P"])
def test_not_a_mat_file(tmp_path: Path, content: bytes) -> None:
    folder = make(tmp_path)
    (folder / RES).write_bytes(content)
    assert problems_of(folder)[0].startswith("res101.mat ")


def change_of(key: str, value: Any) -> Callable[[Variables, Variables], None]:
    def change(res: Variables, att: Variables) -> None:
        holder = res if key in res else att
        new = value(holder[key].copy()) if callable(value) else value
        holder[key] = new

    return change


def with_entry(row: int, entry: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.astype(np.float64)
        array[row, 0] = entry
        return array

    return change


def with_column(column: int, entry: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[-1, column - 1] = entry
        return array

    return change


TRAIN = (29, 2, 24, 4, 7, 9, 12, 14)
ONE_PROBLEM = {
    "fewer labels": (
        change_of("labels", lambda old: np.concatenate((old, old[:3]))),
        "features holds 30 samples, labels 33 values",
    ),
    "label 0": (change_of("labels", with_entry(2, 0)), "labels: 1 values (0) below 1"),
    "label not whole": (
        change_of("labels", with_entry(2, 1.5)),
        "labels: 1 values (1.5) that are not integers",
    ),
    "label NaN": (
        change_of("labels", with_entry(2, np.nan)),
        "labels: 1 values (nan) that are not integers",
    ),
    "label huge": (
        change_of("labels", with_entry(2, 1e300)),
        "labels: 1 values (1e+300) that are not integers",
    ),
    "labels a matrix": (
        change_of("labels", np.ones((6, 5))),
        "labels is an array (6, 5) of float64; expected a vector",
    ),
    "labels text": (change_of("labels", np.array(["a", "b"])), "labels is an array (2,) of <U1"),
    "class without attributes": (
        change_of("labels", with_entry(0, 9)),
        "test_unseen_loc: 1 classes (9) without attributes; expected 1..5",
    ),
    "attributes NaN": (change_of("att", with_column(4, np.nan)), "att: 1 classes (4) with NaN or"),
    "features NaN": (
        change_of("features", with_column(24, np.nan)),
        "trainval_loc: 1 rows (24) with NaN or Inf in features",
    ),
    "features too large": (
        change_of("features", with_column(30, 1e39)),
        "test_unseen_loc: 1 rows (30) with NaN or Inf in features",
    ),
    "features sparse": (
        change_of("features", scipy.sparse.csc_matrix(np.ones((3, 30)))),
        "expected a dense numeric matrix (D, N)",
    ),
    "features empty": (
        change_of("features", np.zeros((0, 30))),
        "features is an array (0, 30) of float64",
    ),
    "a mask of another length": (
        change_of("trainval_loc", np.isin(np.arange(1, 30), TRAIN)[:, None].astype(np.uint8)),
        "trainval_loc is a mask of 29 rows; there are 30",
    ),
    "index 0": (
        change_of("trainval_loc", index(*TRAIN, 0)),
        "trainval_loc: 1 rows (0) out of range; expected 1..30",
    ),
    "index 31": (
        change_of("test_unseen_loc", index(1, 5, 31, 99)),
        "test_unseen_loc: 2 rows (31, 99) out of range; expected 1..30",
    ),
    "index not whole": (
        change_of("test_seen_loc", index(27, 19.25)),
        "test_seen_loc: 1 values (19.25) that are not integers",
    ),
    "empty train": (
        change_of("trainval_loc", np.zeros((0, 1))),
        "trainval_loc is empty; expected at least one",
    ),
    "empty test_seen": (change_of("test_seen_loc", np.zeros((0, 0))), "test_seen_loc is empty"),
    "empty test_unseen": (
        change_of("test_unseen_loc", np.zeros((1, 0))),
        "test_unseen_loc is empty",
    ),
    "duplicates": (
        change_of("trainval_loc", index(*TRAIN, 2, 2, 14)),
        "trainval_loc: 2 rows (2, 14) more than once",
    ),
    "test_seen overlaps train": (
        change_of("test_seen_loc", index(27, 19, 24, 2)),
        "trainval_loc and test_seen_loc share 2 rows (2, 24)",
    ),
    "test_seen class not trained": (
        change_of("test_seen_loc", index(27, 19, 13)),
        "test_seen_loc: 1 classes (3) that are not seen classes",
    ),
    "seen and unseen": (
        change_of("test_unseen_loc", index(1, 5, 17, 22, 19)),
        "trainval_loc and test_unseen_loc: 2 classes (2, 4) both seen and unseen",
    ),
}
# One cause with two true consequences: the expected problem and the only other one allowed.
CONSEQUENCE = {"seen and unseen": "test_seen_loc and test_unseen_loc share 3 rows (17, 19, 22)"}


@pytest.mark.parametrize("case", ONE_PROBLEM)
def test_one_problem(tmp_path: Path, case: str) -> None:
    change, expected = ONE_PROBLEM[case]
    found = problems_of(make(tmp_path, change))
    if case in CONSEQUENCE:
        assert found.pop(0).startswith(CONSEQUENCE[case])
    assert len(found) == 1
    assert expected in found[0]


def test_one_problem_v73(tmp_path: Path) -> None:
    """Empty and sparse (a group) variables look different in HDF5."""
    folder = make(tmp_path, change_of("test_seen_loc", np.zeros((0, 0))), "v7.3")
    (only,) = problems_of(folder)
    assert only.startswith("test_seen_loc is empty")
    with h5py.File(folder / RES, "r+") as handle:
        del handle["features"]
        handle.create_group("features")
    assert problems_of(folder)[0].startswith("features is a Group; expected a dense numeric matrix")


def test_test_unseen_overlaps_train(tmp_path: Path) -> None:
    found = problems_of(make(tmp_path, change_of("test_unseen_loc", index(1, 5, 29))))
    assert len(found) == 2
    assert found[0].startswith("trainval_loc and test_unseen_loc share 1 rows (29)")
    assert found[1].endswith("1 classes (4) both seen and unseen")


def test_transposed_matrices(tmp_path: Path) -> None:
    def change(res: Variables, att: Variables) -> None:
        res["features"] = res["features"].T
        att["att"] = np.ones((5, 8))  # (C, A) with A > C: every label has a column
        del att["allclasses_names"]

    found = problems_of(make(tmp_path, change))
    assert len(found) == 2
    assert found[0].endswith("; transpose features")
    assert found[1].startswith("att holds 8 vectors of length 5 for 5 classes; transpose it")


def test_everything_is_listed_at_once(tmp_path: Path) -> None:
    def change(res: Variables, att: Variables) -> None:
        res["labels"][2, 0] = 0
        res["features"][0, :20] = np.inf
        att["att"][0, 0] = np.nan
        att["trainval_loc"] = index(*TRAIN, 2, 1)
        att["test_seen_loc"] = index(27, 17, 19, 40)
        del att["test_unseen_loc"]

    found = problems_of(make(tmp_path, change))
    expected = [
        "att_splits.mat has no variable 'test_unseen_loc'",
        "labels: 1 values (0) below 1",
        "trainval_loc: 1 rows (2) more than once",
        "test_seen_loc: 1 rows (40) out of range",
        "trainval_loc: 6 rows (2, 4, 7, 9, 12, 14) with NaN or Inf",
        "test_seen_loc: 2 rows (17, 19) with NaN or Inf",
        "att: 1 classes (1) with NaN or Inf",
    ]
    assert len(found) == len(expected)
    for problem, start in zip(found, expected, strict=True):
        assert problem.startswith(start)


def test_one_unreadable_file_hides_nothing_in_the_other(tmp_path: Path) -> None:
    folder = make(tmp_path, change_of("trainval_loc", index(2, 2, 4)))
    (folder / RES).write_bytes(b"")
    found = problems_of(folder)
    assert len(found) == 2
    assert found[0].startswith("res101.mat cannot be read as a MATLAB file")
    assert found[1].startswith("trainval_loc: 1 rows (2) more than once")
