"""Reads variables of MATLAB files, v5 and v7.3 (HDF5), and of .npz and .h5 files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from d3_plugin.errors import MissingExtraError, Problems

#: The field's names of the sets of row numbers, and of the names of classes.
SETS = {"train": "trainval_loc", "test_seen": "test_seen_loc", "test_unseen": "test_unseen_loc"}
CLASS_NAMES = "allclasses_names"

_OBJECTS = (b"string", b"categorical", b"table", b"datetime")
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def read(
    file: Path, needed: Sequence[str], optional: Sequence[str], problems: Problems
) -> dict[str, Any]:
    """Variables of a file, in MATLAB's orientation; unreadable optional ones are left out."""
    if not file.is_file():
        problems.add(f"{file.name} is missing; expected a .mat file with {', '.join(needed)}")
        return {}
    try:
        read_variables = _read_npz if file.suffix == ".npz" else _read_v5
        if _is_hdf5(file):
            read_variables = _read_hdf5
        found, present = read_variables(file, needed)
    except MissingExtraError:
        raise
    except Exception as error:  # a broken file makes scipy and h5py raise almost anything
        problems.add(
            f"{file.name} cannot be read as a MATLAB file ({type(error).__name__}: {error}); "
            "it may be truncated or in another format: copy or download it again"
        )
        return {}
    for key in needed:
        if key not in found:
            problems.add(f"{file.name} has no variable {key!r}, it has {sorted(present)[:10]}")
    for key in optional:
        with suppress(Exception):
            found |= read_variables(file, [key])[0]
    return found


def _is_hdf5(file: Path) -> bool:
    with file.open("rb") as stream:
        start = stream.read(512 + len(_HDF5_SIGNATURE))
    # MATLAB v7.3 puts a 512-byte block before the HDF5 data; other writers do not.
    return start.startswith(_HDF5_SIGNATURE) or start[512:] == _HDF5_SIGNATURE


def _read_v5(file: Path, wanted: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    import scipy.io

    present = [name for name, _, _ in scipy.io.whosmat(str(file), appendmat=False)]
    return scipy.io.loadmat(str(file), variable_names=list(wanted), appendmat=False), present


def _read_npz(file: Path, wanted: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    with np.load(file, allow_pickle=False) as arrays:
        keys = [key for key in wanted if key in arrays]
        return {key: arrays[key] for key in keys}, list(arrays)


def _read_hdf5(file: Path, wanted: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError(
            f"{file} is a MATLAB v7.3 (HDF5) file and h5py is not installed: "
            'pip install "d3-plugin[hdf5]"'
        ) from error

    with h5py.File(file, "r") as handle:
        found = {key: _hdf5_value(handle[key], handle, file) for key in wanted if key in handle}
        return found, list(map(str, handle))


def _hdf5_value(node: Any, handle: Any, file: Path) -> Any:
    """The array at a node of an open file, in MATLAB's orientation; a cell array is of objects."""
    import h5py

    kind = node.attrs.get("MATLAB_class", b"double")
    if not isinstance(node, h5py.Dataset) or kind in _OBJECTS:
        return node  # a struct, a sparse matrix or an object, which stores numbers of its own
    if node.attrs.get("MATLAB_empty", 0):  # stored as its shape instead of its values
        return np.empty((0, 0))
    if node.file.filename != handle.filename or node.external or node.is_virtual:
        # A change of the other file would not change the data set's digest.
        raise ValueError(f"{node.name} is stored in another file; copy it into this one")
    value = node[()]
    if h5py.check_ref_dtype(node.dtype) is None:
        value = np.atleast_1d(value)
        return value.T if file.suffix == ".mat" else value  # MATLAB is column-major
    cells = np.empty(value.size, dtype=object)
    for i, reference in enumerate(value.ravel()):
        cells[i] = _hdf5_value(handle[reference], handle, file)
    return cells


def mat_bytes(variables: Mapping[str, Any]) -> bytes:
    """A MATLAB v5 file; vectors become columns."""
    import scipy.io

    content = io.BytesIO()
    scipy.io.savemat(content, dict(variables), oned_as="column")
    # Equal data make equal files: SciPy writes the time here.
    return b"MATLAB 5.0 MAT-file, written by d3_plugin".ljust(116) + content.getvalue()[116:]


def text(cell: Any) -> str:
    """The string in a cell, as MATLAB, Octave, h5py or hdf5storage write it.

    Raises:
        ValueError: the cell holds no printable string.
    """
    while isinstance(cell, np.ndarray) and cell.dtype == object and cell.size == 1:
        cell = cell.item()  # a cell in a cell
    if isinstance(cell, np.ndarray) and cell.dtype.kind in "ui":
        cell = "".join(map(chr, cell.ravel("F").tolist()))
    elif isinstance(cell, np.ndarray) and cell.dtype.kind in "US":
        cell = cell.astype(object).sum() if cell.size else ""
    if isinstance(cell, bytes):
        cell = cell.decode(errors="replace")
    if not isinstance(cell, str) or not (stripped := cell.strip(" \0")).isprintable():
        raise ValueError(f"{type(cell).__name__} is not a string")
    return stripped
