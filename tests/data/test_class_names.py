"""Class names in whatever form a file has them; none of them stops a load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from d3_plugin.data import load_mat_folder
from d3_plugin.errors import D3Warning
from tests.data.mat_folders import ATT, NAMES, Variables, make, problems_of

IN_USE = ("ape", "bat", "dog", "eel")
NUMBERED = ("class 1", "class 2", "class 4", "class 5")


def column(cells: list[Any]) -> np.ndarray:
    array = np.empty((len(cells), 1), dtype=object)
    for i, cell in enumerate(cells):
        array[i, 0] = cell
    return array


def nested(cell: Any, depth: int) -> Any:
    for _ in range(depth):
        cell = column([cell])
    return cell


def with_names(folder: Path, names: np.ndarray) -> Path:
    def change(res: Variables, att: Variables) -> None:
        att["allclasses_names"] = names

    return make(folder, change)


READABLE = {
    "a row of cells": np.array(NAMES, dtype=object)[None],
    "characters": np.array(NAMES),
    "padded": column(["ape", " bat ", "cat  ", "dog", "eel\0"]),
    "nested": column([nested(name, 300) for name in NAMES]),
    "code numbers": column([np.array([list(map(ord, name))], np.uint16) for name in NAMES]),
}
UNREADABLE = {
    "too few": (column(NAMES[:4]), "4 names for 5 classes"),
    "numbers": (np.ones((5, 1)), "an array .* of float64 holds no names"),
    "small integers": (np.arange(5, dtype=np.uint8)[:, None], "an array .* of uint8 holds no name"),
    "mixed": (column(["ape", 2.5, "cat", [1.0, 2.0], "eel"]), "holds no names"),
    "a struct": (np.array([(1.0,)], dtype=[("a", "f8")]), "holds no names"),
}


@pytest.mark.parametrize("case", READABLE)
def test_readable(tmp_path: Path, case: str) -> None:
    assert load_mat_folder(with_names(tmp_path, READABLE[case])).class_names == IN_USE


@pytest.mark.parametrize("case", UNREADABLE)
def test_unreadable(tmp_path: Path, case: str) -> None:
    names, why = UNREADABLE[case]
    with pytest.warns(D3Warning, match=f"classes are numbered: .*{why}"):
        data = load_mat_folder(with_names(tmp_path, names))
    assert data.class_names == NUMBERED


def codes() -> np.ndarray:
    return np.array([list(map(ord, name)) for name in NAMES], dtype=np.uint16).T


HDF5 = {
    "h5py strings": lambda handle: np.array(NAMES, dtype=h5py.string_dtype()),
    "fixed bytes": lambda handle: np.array(NAMES, dtype="S5"),
    "a character matrix": lambda handle: codes(),
}


@pytest.mark.parametrize("case", HDF5)
def test_hdf5(tmp_path: Path, case: str) -> None:
    folder = make(tmp_path, version="v7.3")
    with h5py.File(folder / ATT, "r+") as handle:
        del handle["allclasses_names"]
        handle["allclasses_names"] = HDF5[case](handle)
    assert load_mat_folder(folder).class_names == IN_USE


MATLAB_OBJECT = np.array([[0xDD000000, 2, 1, 1, 1, 1]], dtype=np.uint32)


@pytest.mark.parametrize("kind", ["string", "categorical", None])
def test_matlab_objects(tmp_path: Path, kind: str | None) -> None:
    """MATLAB's string class stores a reference to a block that only MATLAB can read."""
    folder = make(tmp_path, version="v7.3")
    with h5py.File(folder / ATT, "r+") as handle:
        del handle["allclasses_names"]
        handle["allclasses_names"] = MATLAB_OBJECT
        if kind is not None:
            handle["allclasses_names"].attrs["MATLAB_class"] = np.bytes_(kind)
    message = (
        r"classes are numbered: .* holds no names; in MATLAB, save cellstr\(allclasses_names\)"
    )
    with pytest.warns(D3Warning, match=message):
        assert load_mat_folder(folder).class_names == NUMBERED


def test_a_matlab_object_is_no_vector_of_numbers(tmp_path: Path) -> None:
    folder = make(tmp_path, version="v7.3")
    with h5py.File(folder / ATT, "r+") as handle:
        del handle["trainval_loc"]
        handle["trainval_loc"] = MATLAB_OBJECT
        handle["trainval_loc"].attrs["MATLAB_class"] = np.bytes_("categorical")
    assert problems_of(folder) == ["trainval_loc is a Dataset; expected a vector of integers"]


def test_hdf5_cells_in_cells_and_in_themselves(tmp_path: Path) -> None:
    folder = make(tmp_path, version="v7.3")
    with h5py.File(folder / ATT, "r+") as handle:
        names = handle["allclasses_names"]
        inner = names[()]
        for i in range(inner.size):
            inner.ravel()[i] = handle.create_dataset(
                f"again/{i}", data=np.array([inner.ravel()[i]], dtype=h5py.ref_dtype)
            ).ref
        names[()] = inner
    assert load_mat_folder(folder).class_names == IN_USE
    with h5py.File(folder / ATT, "r+") as handle:
        again = handle["again/0"]
        again[()] = np.array([again.ref], dtype=h5py.ref_dtype)
    assert load_mat_folder(folder).class_names == NUMBERED
