"""The files of a data folder: other names and kinds, another attribute file, their own cut."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from d3_plugin.data import digest, load, load_mat_folder
from d3_plugin.errors import D3Warning, DataError
from tests.data.mat_folders import ATT, RES, Variables, good, index, make, problems_of
from tests.data.test_dataset import same


def test_digest_does_not_hold_a_whole_file(tmp_path: Path) -> None:
    (tmp_path / ATT).write_bytes(b"x")
    with (tmp_path / RES).open("wb") as file:
        file.truncate(50 << 20)
    tracemalloc.start()
    first = digest(str(tmp_path))
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()
    (tmp_path / ATT).write_bytes(b"y")
    assert digest(str(tmp_path)) != first


def write_npz(file: Path, variables: Variables) -> None:
    np.savez(file, **{k: v.astype("U") if v.dtype == object else v for k, v in variables.items()})


def write_h5(file: Path, variables: Variables) -> None:
    """As h5py users do: nothing is transposed."""
    with h5py.File(file, "w") as handle:
        for key, value in variables.items():
            strings = value.dtype == object
            handle.create_dataset(key, data=value, dtype=h5py.string_dtype() if strings else None)


WRITERS = {".npz": write_npz, ".h5": write_h5, ".mat": scipy.io.savemat}


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("stem", ["att_splits", "sent_splits"])
def test_other_names_and_kinds(tmp_path: Path, stem: str, suffix: str) -> None:
    expected = load_mat_folder(make(tmp_path))
    folder = tmp_path / "other"
    folder.mkdir()
    for name, variables in zip(("res101", stem), good(), strict=True):
        WRITERS[suffix](folder / f"{name}{suffix}", variables)
    data = load_mat_folder(folder)
    assert same(data, expected)
    assert data.class_names == expected.class_names
    assert digest(str(folder)) != digest(str(tmp_path / "birds"))


def test_att_splits_comes_first(tmp_path: Path) -> None:
    folder = make(tmp_path)
    before = digest(str(folder))
    scipy.io.savemat(folder / "sent_splits.mat", {"att": np.ones((2, 2))})
    assert digest(str(folder)) == before
    load_mat_folder(folder)


@pytest.mark.parametrize("place", ["in the folder", "elsewhere"])
def test_another_attribute_file(tmp_path: Path, place: str) -> None:
    folder = make(tmp_path)
    sentences = np.random.default_rng(0).random((7, 5))
    file = (folder if place == "in the folder" else tmp_path) / "sentences.mat"
    scipy.io.savemat(file, {"att": sentences})
    given: Any = file.name if place == "in the folder" else file
    data = load(folder, attributes=given)
    assert np.array_equal(data.attributes.numpy(), sentences.T[[0, 1, 3, 4]].astype(np.float32))
    plain = load(folder)
    assert same(data, type(data)(**{**vars(plain), "attributes": data.attributes}))
    assert len({digest(str(folder)), digest(str(folder), given)}) == 2
    scipy.io.savemat(file, {"att": sentences[:, :4]})
    with pytest.warns(D3Warning, match="classes are numbered"), pytest.raises(DataError) as caught:
        load(folder, attributes=given)
    assert "1 classes (5) without attributes; expected 1..4" in str(caught.value)
    with pytest.raises(DataError, match=r"none\.mat is missing; expected a \.mat file with att"):
        load(folder, attributes="none.mat")
    with pytest.raises(DataError, match="'digits' has one attribute table"):
        load("digits", attributes=given)


def three_seen(res: Variables, att: Variables) -> None:
    """Classes 2 and 4 are seen in training, 3 is left to validate on; 1 and 5 are unseen."""
    att["trainval_loc"] = index(*range(2, 21, 5), *range(4, 21, 5), *range(3, 21, 5))
    att["train_loc"] = index(*range(2, 21, 5), *range(4, 21, 5))
    att["val_loc"] = index(*range(3, 21, 5))
    att["test_seen_loc"] = index(22, 23, 24)


def test_validation_on_the_files_own_split(tmp_path: Path) -> None:
    data = load(make(tmp_path, three_seen), validation=True)
    assert data.name == "birds-val"
    assert data.class_names == ("bat", "cat", "dog")
    assert data.seen_classes.tolist() == [0, 2]
    assert sorted(data.test_unseen_features[:, 0].tolist()) == [3, 8, 13, 18]
    kept, held_out = data.train_features[:, 0].tolist(), data.test_seen_features[:, 0].tolist()
    assert sorted(kept + held_out) == [2, 4, 7, 9, 12, 14, 17, 19]
    assert sorted(data.test_seen_labels.tolist()) == [0, 2]


def test_validation_refuses_test_rows(tmp_path: Path) -> None:
    def leaking(res: Variables, att: Variables) -> None:
        three_seen(res, att)
        att["val_loc"] = index(3, 8, 23)
        att["train_loc"] = index(2, 4, 1)

    with pytest.raises(DataError) as caught:
        load(make(tmp_path, leaking), validation=True)
    message = str(caught.value)
    assert "train_loc contains 1 of the 6 samples of test_unseen_loc; these cannot be" in message
    assert "val_loc contains 1 of the 3 samples of test_seen_loc; these cannot be" in message


def test_validation_without_the_sets(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(make(tmp_path), validation=True)
    assert "no variable 'train_loc'" in str(caught.value)
    assert "no variable 'val_loc'" in str(caught.value)


def test_the_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "sent_splits.npz").write_bytes(b"")
    found = problems_of(tmp_path)
    assert found[0].startswith("res101.mat is missing")
    assert found[1].startswith("sent_splits.npz cannot be read")
