"""Folders in the field's format: good ones, warnings, and the real split files."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse
import torch

from d3_plugin.data import load, load_mat_folder
from d3_plugin.errors import D3Warning, DataError, MissingExtraError
from tests.data.mat_folders import (
    ATT,
    BOTH,
    PARTS,
    RES,
    SETS,
    Variables,
    good,
    index,
    make,
    set_column,
)


@BOTH
def test_good_folder(tmp_path: Path, version: str) -> None:
    data = load_mat_folder(make(tmp_path, version=version))
    assert data.name == "birds"
    # Class 3 is dropped: 1, 2, 4, 5 become 0, 1, 2, 3.
    assert data.class_names == ("ape", "bat", "dog", "eel")
    assert data.attributes.tolist() == [[10, -1], [20, -4], [40, -16], [50, -25]]
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
    assert wanted[:2] == [{"features", "labels"}, {"att", *SETS}]
    assert set.union(*wanted[2:]) == {"train_loc", "val_loc", "allclasses_names"}


def test_v73_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path, version="v7.3")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r'pip install "d3-plugin\[hdf5\]"'):
        load_mat_folder(folder)


def test_nan_in_an_unused_row_is_fine(tmp_path: Path) -> None:
    data = load_mat_folder(make(tmp_path, lambda res, att: set_column(res["features"], 3, np.nan)))
    assert data.num_classes == 4


def test_a_seen_class_without_held_out_rows_is_left_out(tmp_path: Path) -> None:
    folder = make(tmp_path, lambda res, att: att.update(test_seen_loc=index(27, 17)))
    with pytest.warns(D3Warning, match=r"1 seen classes \(dog\) without rows in test_seen_loc are"):
        data = load_mat_folder(folder)
    assert data.class_names == ("ape", "bat", "eel")
    assert data.seen_classes.tolist() == [1]
    assert data.train_features[:, 0].tolist() == [2, 7, 12]


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
        with pytest.raises(DataError, match=r"(?s)1173 .* cannot .* 230 .* cannot be used for val"):
            load_mat_folder(folder, validation=True)
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
