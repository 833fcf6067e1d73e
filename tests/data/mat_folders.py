"""Small data folders in the field's format, written as MATLAB v5 and v7.3 do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from d3_plugin.data import load_mat_folder
from d3_plugin.errors import DataError

Variables = dict[str, Any]
SETS = ("trainval_loc", "test_seen_loc", "test_unseen_loc")
PARTS = ("train", "test_seen", "test_unseen")
RES, ATT = "res101.mat", "att_splits.mat"
NAMES = ["ape", "bat", "cat", "dog", "eel"]


def good() -> tuple[Variables, Variables]:
    """30 samples of classes 1..5 in turn. 2 and 4 are seen, 1 and 5 unseen, 3 is in no split.

    The features of sample n (from 1) are n, 100 n and 0.5; the attributes of class c are 10 c, -c².
    """
    sample = np.arange(1, 31)
    labels = (sample - 1) % 5 + 1
    res = {
        "features": np.stack([sample, 100 * sample, np.full(30, 0.5)]).astype(np.float64),
        "labels": labels[:, None].astype(np.float64),
    }
    att = {
        "att": np.stack([np.arange(1, 6) * 10.0, -(np.arange(1.0, 6) ** 2)]),
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


def set_column(array: np.ndarray, column: int, value: float) -> None:
    array[:, column - 1] = value


def index(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)[:, None]
