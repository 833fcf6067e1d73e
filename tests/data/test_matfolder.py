"""Folders in the field's format: good ones, every kind of bad one, and the real split files."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse
import torch

from d3_plugin.data import load, load_mat_folder
from d3_plugin.errors import D3Warning, DataError, MissingExtraError

Variables = dict[str, Any]
SETS = ("trainval_loc", "test_seen_loc", "test_unseen_loc")
PARTS = ("train", "test_seen", "test_unseen")
RES, ATT = "res101.mat", "att_splits.mat"
NAMES = ["ape", "bat", "cat", "dog", "eel"]


def good() -> tuple[Variables, Variables]:
    """30 samples of classes 1..5 in turn. 2 and 4 are seen, 1 and 5 unseen, 3 is in no split.

    The features of sample n (from 1) are n, 100 n and 0.5; the attributes of class c are 10 c, -c.
    """
    sample = np.arange(1, 31)
    labels = (sample - 1) % 5 + 1
    res = {
        "features": np.stack([sample, 100 * sample, np.full(30, 0.5)]).astype(np.float64),
        "labels": labels[:, None].astype(np.float64),
    }
    att = {
        "att": np.stack([np.arange(1, 6) * 10.0, -np.arange(1, 6)]),
        # Not in order, and unsigned as in the real files.
        "trainval_loc": np.array([[29, 2, 24, 4, 7, 9, 12, 14]], dtype=np.uint16).T,
        "test_seen_loc": np.array([[27, 17, 22, 19]], dtype=np.uint16).T,
        "test_unseen_loc": np.array([[1, 30, 6, 11, 5, 25]], dtype=np.uint16).T,
        "allclasses_names": np.array(NAMES, dtype=object)[:, None],
    }
    return res, att


def write_v5(file: Path, variables: Variables) -> None:
    scipy.io.savemat(file, variables, do_compression=True)


def write_v73(file: Path, variables: Variables) -> None:
    """As MATLAB does: arrays transposed, cell arrays as references, a 512-byte block in front."""
    with h5py.File(file, "w", userblock_size=512) as handle:
        for key, value in variables.items():
            if value.dtype == object:
                cells = np.empty(value.T.shape, dtype=h5py.ref_dtype)
                for i, text in enumerate(value.ravel()):
                    codes = np.array([[ord(char)] for char in text], dtype=np.uint16)
                    cells[0, i] = handle.create_dataset(f"#refs#/{i}", data=codes).ref
                handle.create_dataset(key, data=cells, dtype=h5py.ref_dtype)
            elif value.size == 0:
                shape = np.array(value.shape, dtype=np.uint64)
                handle.create_dataset(key, data=shape).attrs["MATLAB_empty"] = 1
            else:
                handle[key] = value.T
    with file.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


WRITERS = {"v5": write_v5, "v7.3": write_v73}
BOTH = pytest.mark.parametrize("version", WRITERS)


def make(
    folder: Path, change: Callable[[Variables, Variables], Any] | None = None, version: str = "v5"
) -> Path:
    res, att = good()
    if change is not None:
        change(res, att)
    folder = folder / "birds"
    folder.mkdir()
    WRITERS[version](folder / RES, res)
    WRITERS[version](folder / ATT, att)
    return folder


def problems_of(folder: Path) -> list[str]:
    """The problems that loading ``folder`` reports."""
    with pytest.raises(DataError) as caught:
        load_mat_folder(folder)
    start = f"data folder {str(folder)!r}: "
    message = str(caught.value)
    assert message.startswith(start)
    lines = message[len(start) :].split("\n  - ")
    if len(lines) > 1:
        assert lines[0] == f"{len(lines) - 1} problems:"
        return lines[1:]
    return lines


@BOTH
def test_good_folder(tmp_path: Path, version: str) -> None:
    data = load_mat_folder(make(tmp_path, version=version))
    assert data.name == "birds"
    # Class 3 is dropped: 1, 2, 4, 5 become 0, 1, 2, 3.
    assert data.class_names == ("ape", "bat", "dog", "eel")
    assert data.attributes.tolist() == [[10, -1], [20, -2], [40, -4], [50, -5]]
    assert data.seen_classes.tolist() == [1, 2]
    assert data.unseen_classes.tolist() == [0, 3]
    _, att = good()
    new_id = {1: 0, 2: 1, 4: 2, 5: 3}
    for part, key in zip(PARTS, SETS, strict=True):
        index = att[key].ravel().tolist()
        features, labels = getattr(data, f"{part}_features"), getattr(data, f"{part}_labels")
        assert features.tolist() == [[n, 100 * n, 0.5] for n in index]
        assert labels.tolist() == [new_id[(n - 1) % 5 + 1] for n in index]
        assert features.dtype == torch.float32
        assert labels.dtype == torch.int64
    assert data.attributes.dtype == torch.float32


@BOTH
def test_row_vectors_and_no_names(tmp_path: Path, version: str) -> None:
    def change(res: Variables, att: Variables) -> None:
        res["labels"] = res["labels"].T.astype(np.uint8)
        for key in SETS:
            att[key] = att[key].T.astype(np.float64)
        del att["allclasses_names"]

    data = load(str(make(tmp_path, change, version)))
    assert data.class_names == ("class 1", "class 2", "class 4", "class 5")
    assert data.test_seen_features[:, 0].tolist() == [27, 17, 22, 19]


def test_other_variables_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[set[str]] = []
    loadmat = scipy.io.loadmat

    def spy(file: str, **options: Any) -> Any:
        wanted.append(set(options["variable_names"]))
        return loadmat(file, **options)

    monkeypatch.setattr(scipy.io, "loadmat", spy)
    load_mat_folder(make(tmp_path))
    assert wanted[0] == {"features", "labels"}
    assert wanted[1] == {"att", *SETS, "train_loc", "val_loc", "allclasses_names"}


def test_v73_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path, version="v7.3")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r'pip install "d3-plugin\[hdf5\]"'):
        load_mat_folder(folder)


def test_nan_in_an_unused_row_is_fine(tmp_path: Path) -> None:
    data = load_mat_folder(make(tmp_path, lambda res, att: set_column(res["features"], 3, np.nan)))
    assert data.num_classes == 4


# --- bad folders -----------------------------------------------------------------------------


def test_no_folder_and_a_file(tmp_path: Path) -> None:
    (only,) = problems_of(tmp_path / "none")
    assert only == "does not exist; give the folder that holds res101.mat and att_splits.mat"
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


def set_column(array: np.ndarray, column: int, value: float) -> None:
    array[:, column - 1] = value


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


def index(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)[:, None]


TRAIN = (29, 2, 24, 4, 7, 9, 12, 14)
ONE_PROBLEM = {
    "fewer labels": (
        change_of("labels", lambda old: np.concatenate((old, old[:3]))),
        "features (3, 30) has 30 columns (samples), labels has 33 values",
    ),
    "label 0": (change_of("labels", with_entry(2, 0)), "labels: 1 values (0) below 1"),
    "label not whole": (
        change_of("labels", with_entry(2, 1.5)),
        "labels: 1 values (1.5) not whole",
    ),
    "label NaN": (change_of("labels", with_entry(2, np.nan)), "labels: 1 values (nan) not whole"),
    "label huge": (
        change_of("labels", with_entry(2, 1e300)),
        "labels: 1 values (1e+300) not whole",
    ),
    "labels a matrix": (
        change_of("labels", np.ones((6, 5))),
        "labels is an array (6, 5) of float64; expected a vector",
    ),
    "labels text": (change_of("labels", np.array(["a", "b"])), "labels is an array (2,) of <U1"),
    "class without attributes": (
        change_of("labels", with_entry(2, 9)),
        "labels: 1 classes (9) without attributes; expected one column of att (2, 5) per class",
    ),
    "attributes NaN": (change_of("att", with_column(4, np.nan)), "att: 1 classes (4) with NaN or"),
    "features NaN": (
        change_of("features", with_column(24, np.nan)),
        "features: 1 samples (24) with NaN or Inf",
    ),
    "features too large": (
        change_of("features", with_column(30, 1e39)),
        "features: 1 samples (30) with NaN or Inf",
    ),
    "features sparse": (
        change_of("features", scipy.sparse.csc_matrix(np.ones((3, 30)))),
        "expected a full numeric matrix (D, N)",
    ),
    "features empty": (
        change_of("features", np.zeros((0, 30))),
        "features is an array (0, 30) of float64",
    ),
    "names too few": (
        change_of("allclasses_names", np.array(NAMES[:4], dtype=object)[:, None]),
        "allclasses_names holds 4 names, att has 5 columns (classes)",
    ),
    "names numbers": (
        change_of("allclasses_names", np.ones((5, 1))),
        "allclasses_names is an array (5, 1) of float64; expected a cell array",
    ),
    "index 0": (
        change_of("trainval_loc", index(*TRAIN, 0)),
        "trainval_loc: 1 indices (0) out of range; expected 1..30",
    ),
    "index 31": (
        change_of("test_unseen_loc", index(1, 5, 31, 99)),
        "test_unseen_loc: 2 indices (31, 99) out of range; expected 1..30",
    ),
    "index not whole": (
        change_of("test_seen_loc", index(27, 19.25)),
        "test_seen_loc: 1 values (19.25) not whole",
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
        "trainval_loc: 2 indices (2, 14) more than once",
    ),
    "test_seen overlaps train": (
        change_of("test_seen_loc", index(27, 19, 24, 2)),
        "trainval_loc and test_seen_loc share 2 samples (2, 24); expected disjoint",
    ),
    "seen class without test rows": (
        change_of("test_seen_loc", index(27, 17)),
        "1 seen classes (4) without samples in test_seen_loc",
    ),
    "test_seen class not trained": (
        change_of("test_seen_loc", index(27, 19, 13)),
        "test_seen_loc: 1 classes (3) not in trainval_loc",
    ),
    "seen and unseen": (
        change_of("test_unseen_loc", index(1, 5, 17, 22, 19)),
        "2 classes (2, 4) both seen (in trainval_loc) and unseen (in test_unseen_loc)",
    ),
}
# One cause with two true consequences: the expected problem and the only other one allowed.
CONSEQUENCE = {"seen and unseen": "test_seen_loc and test_unseen_loc share 3 samples (17, 19, 22)"}


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
    assert problems_of(folder)[0].startswith("features is a Group; expected a full numeric matrix")


def test_test_unseen_overlaps_train(tmp_path: Path) -> None:
    found = problems_of(make(tmp_path, change_of("test_unseen_loc", index(1, 5, 29))))
    assert len(found) == 2
    assert found[0].startswith("trainval_loc and test_unseen_loc share 1 samples (29)")
    assert found[1].startswith("1 classes (4) both seen")


def test_transposed_matrices(tmp_path: Path) -> None:
    def change(res: Variables, att: Variables) -> None:
        res["features"] = res["features"].T
        att["att"] = np.ones((5, 8))  # (C, A) with A > C: every label has a column
        del att["allclasses_names"]

    found = problems_of(make(tmp_path, change))
    assert len(found) == 2
    assert found[0].endswith("; transpose features")
    assert found[1].startswith("att (5, 8) has as many rows as labels has classes (5)")


def test_everything_is_listed_at_once(tmp_path: Path) -> None:
    def change(res: Variables, att: Variables) -> None:
        res["labels"][2, 0] = 0
        res["labels"][7, 0] = 6
        res["features"][0, :20] = np.inf
        att["att"][0, 0] = np.nan
        att["trainval_loc"] = index(*TRAIN, 2, 1)
        att["test_seen_loc"] = index(27, 17, 40)
        del att["test_unseen_loc"]

    found = problems_of(make(tmp_path, change))
    expected = [
        "att_splits.mat has no variable 'test_unseen_loc'",
        "labels: 1 values (0) below 1",
        "labels: 1 classes (6) without attributes",
        "trainval_loc: 1 indices (2) more than once",
        "test_seen_loc: 1 indices (40) out of range",
        "2 seen classes (1, 4) without samples in test_seen_loc",
        "features: 8 samples (1, 2, 4, 7, 9, ...) with NaN or Inf",
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
    assert found[1].startswith("trainval_loc: 1 indices (2) more than once")


def test_warns_when_validation_rows_are_test_rows(tmp_path: Path) -> None:
    def change(res: Variables, att: Variables) -> None:
        att["train_loc"], att["val_loc"] = index(2, 27, 17, 1), index(5)

    with pytest.warns(D3Warning) as caught:
        load_mat_folder(make(tmp_path, change))
    (only,) = caught
    assert only.filename == __file__
    assert (
        "train_loc contains 2 of the 4 samples of test_seen_loc, "
        "train_loc contains 1 of the 6 samples of test_unseen_loc, "
        "val_loc contains 1 of the 6 samples of test_unseen_loc."
    ) in str(only.message)


# --- real files ------------------------------------------------------------------------------


def stand_in(shared_data: Path, name: str, folder: Path) -> tuple[Path, Variables]:
    """The real splits with random features; labels that fit the splits, as there are none."""
    source = shared_data / "att_splits" / f"{name}.mat"
    if not source.is_file():
        pytest.skip(f"no att_splits/{name}.mat in the real data")
    splits = scipy.io.loadmat(source)
    num_classes = splits["att"].shape[1]
    sets = [splits[key].ravel().astype(np.int64) for key in SETS]
    num_unseen = num_classes // 4
    unseen = np.arange(1, num_classes + 1)[::4][:num_unseen]
    seen = np.setdiff1d(np.arange(1, num_classes + 1), unseen)
    labels = np.zeros(max(s.max() for s in sets), dtype=np.int32)
    for rows, classes in zip(sets, (seen, seen, unseen), strict=True):
        labels[rows - 1] = np.resize(classes, len(rows))
    features = np.random.default_rng(0).random((4, len(labels)), dtype=np.float32)
    (folder / ATT).write_bytes(source.read_bytes())
    scipy.io.savemat(folder / RES, {"features": features, "labels": labels[:, None]})
    return folder, {
        "features": features,
        "labels": labels,
        "sets": sets,
        "unseen": unseen,
        **splits,
    }


@pytest.mark.parametrize(
    ("name", "sizes", "classes", "width"),
    [
        ("AWA2", (23527, 5882, 7913), 50, 85),
        ("APY", (5932, 1483, 7924), 32, 64),
        ("CUB", (7057, 1764, 2967), 200, 312),
        ("SUN", (10320, 2580, 1440), 717, 102),
        ("FLO", (5631, 1403, 1155), 102, 1024),
    ],
)
def test_real_splits(
    shared_data: Path,
    tmp_path: Path,
    name: str,
    sizes: tuple[int, int, int],
    classes: int,
    width: int,
) -> None:
    folder, truth = stand_in(shared_data, name, tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load_mat_folder(folder)
    messages = [str(w.message) for w in caught if w.category is D3Warning]
    if name == "FLO":
        (only,) = messages
        assert "train_loc contains 1173 of the 1403 samples of test_seen_loc" in only
        assert "val_loc contains 230 of the 1403 samples of test_seen_loc" in only
    else:
        assert messages == []
    assert tuple(len(getattr(data, f"{part}_labels")) for part in PARTS) == sizes
    assert data.attributes.shape == (classes, width)
    assert np.array_equal(data.attributes.numpy(), truth["att"].T.astype(np.float32))
    assert data.unseen_classes.tolist() == (truth["unseen"] - 1).tolist()
    for part, rows in zip(PARTS, truth["sets"], strict=True):
        assert np.array_equal(
            getattr(data, f"{part}_features").numpy(), truth["features"].T[rows - 1]
        )
        assert np.array_equal(
            getattr(data, f"{part}_labels").numpy(), truth["labels"][rows - 1] - 1
        )
    if "allclasses_names" in truth:
        assert data.class_names[-1] == truth["allclasses_names"][-1, 0][0]


@pytest.mark.parametrize(
    ("name", "sizes", "seen", "unseen"),
    [("cub50", (1837, 460, 592), 40, 10), ("cub127", (4388, 1101, 1967), 94, 33)],
)
def test_real_features(
    shared_data: Path, name: str, sizes: tuple[int, int, int], seen: int, unseen: int
) -> None:
    if not (shared_data / name).is_dir():
        pytest.skip(f"no {name} in the real data")
    data = load(str(shared_data / name))
    assert data.name == name
    assert tuple(len(getattr(data, f"{part}_labels")) for part in PARTS) == sizes
    assert (len(data.seen_classes), len(data.unseen_classes)) == (seen, unseen)
    assert data.train_features.shape[1] == 1280
    assert data.attributes.shape == (seen + unseen, 312)
    assert data.class_names[0] == "001.Black_footed_Albatross"
    first = scipy.io.loadmat(shared_data / name / ATT, variable_names=["trainval_loc"])
    row = int(first["trainval_loc"][0, 0])
    features = scipy.io.loadmat(shared_data / name / RES, variable_names=["features"])["features"]
    assert np.array_equal(data.train_features[0].numpy(), features[:, row - 1])
