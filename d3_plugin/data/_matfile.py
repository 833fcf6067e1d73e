"""Reading single variables out of MATLAB files, v5 and v7.3 (HDF5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray

from d3_plugin.errors import MissingExtraError, Problems

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def read(
    file: Path, needed: Sequence[str], optional: Sequence[str], problems: Problems
) -> dict[str, Any]:
    """The wanted variables of a .mat file of either version, in MATLAB's orientation."""
    if not file.is_file():
        problems.add(f"{file.name} is missing; expected a .mat file with {', '.join(needed)}")
        return {}
    wanted = (*needed, *optional)
    try:
        is_hdf5 = _is_hdf5(file)
        found, present = (_read_hdf5 if is_hdf5 else _read_v5)(file, wanted)
    except MissingExtraError:
        raise
    except Exception as error:  # a broken file makes scipy and h5py raise almost anything
        problems.add(
            f"{file.name} cannot be read as a MATLAB file ({type(error).__name__}: {error}); "
            "it may be truncated or of another kind: copy or download it again"
        )
        return {}
    for key in needed:
        problems.check(
            key in found,
            f"{file.name} has no variable {key!r}, it has {sorted(map(str, present))[:10]}; "
            "save it under that name",
        )
    return found


def _is_hdf5(file: Path) -> bool:
    with file.open("rb") as stream:
        start = stream.read(512 + len(_HDF5_SIGNATURE))
    # MATLAB v7.3 puts a 512-byte block of its own before the HDF5 data; other writers do not.
    return start.startswith(_HDF5_SIGNATURE) or start[512:] == _HDF5_SIGNATURE


def _read_v5(file: Path, wanted: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    found = scipy.io.loadmat(str(file), variable_names=list(wanted), appendmat=False)
    found = {key: value for key, value in found.items() if key in wanted}
    present = list(found)
    if len(found) < len(wanted):
        present = [name for name, _, _ in scipy.io.whosmat(str(file), appendmat=False)]
    return found, present


def _read_hdf5(file: Path, wanted: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError(
            f"{file} is a MATLAB v7.3 (HDF5) file and h5py is not installed: "
            'pip install "d3-plugin[hdf5]"'
        ) from error
    with h5py.File(file, "r") as handle:
        found = {}
        for key in wanted:
            if key not in handle:
                continue
            node = handle[key]
            if not isinstance(node, h5py.Dataset):  # a struct or a sparse matrix
                found[key] = node
            elif node.attrs.get("MATLAB_empty", 0):  # stored as its shape instead of its values
                found[key] = np.empty((0, 0))
            elif h5py.check_ref_dtype(node.dtype) is not None:  # a cell array: references
                cells = (handle[reference][()] for reference in node[()].ravel())
                text = ["".join(chr(code) for code in np.ravel(cell)) for cell in cells]
                found[key] = np.array(text, dtype=object)
            else:
                found[key] = np.atleast_1d(node[()]).T  # MATLAB is column-major, HDF5 row-major
        return found, list(handle.keys())


def matrix(
    raw: dict[str, Any], key: str, expected: str, problems: Problems
) -> NDArray[np.float32] | None:
    """A non-empty matrix as float32; None, with a problem noted, if it is anything else."""
    if key not in raw:
        return None
    value = raw[key]
    if not _is_numeric(value) or value.ndim != 2 or value.size == 0:
        problems.add(f"{key} is {_describe(value)}; expected a full numeric matrix {expected}")
        return None
    with np.errstate(over="ignore"):  # too large for float32 becomes Inf, which is reported
        return np.asarray(value, dtype=np.float32)


def integers(raw: dict[str, Any], key: str, problems: Problems) -> NDArray[np.int64] | None:
    """A vector of whole numbers as int64: ``loc - 1`` on the files' uint16 could wrap around."""
    if key not in raw:
        return None
    value = raw[key]
    if not _is_numeric(value) or (value.size and value.size != max(value.shape)):
        problems.add(f"{key} is {_describe(value)}; expected a vector of whole numbers from 1")
        return None
    value = value.ravel()
    if value.dtype.kind == "f":
        whole = np.isfinite(value) & (np.floor(value) == value) & (np.abs(value) < 2.0**53)
        if not whole.all():
            problems.add(f"{key}: {some(value[~whole])} not whole; expected whole numbers from 1")
            return None
    return np.asarray(value, dtype=np.int64)


def class_names(
    raw: dict[str, Any], key: str, att: NDArray[np.float32] | None, problems: Problems
) -> list[str]:
    """The names of a cell array, one per column of ``att``; [] if there are none."""
    if key not in raw:
        return []
    value = raw[key]
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "OU":
        problems.add(
            f"{key} is {_describe(value)}; expected a cell array of names (or leave it out)"
        )
        return []
    names = ["".join(str(part) for part in np.ravel(cell)).strip() for cell in value.ravel()]
    if att is not None:
        problems.check(
            len(names) == att.shape[1],
            f"{key} holds {len(names)} names, att has {att.shape[1]} columns (classes); "
            "expected one name per class (or leave it out)",
        )
    return names


def _is_numeric(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiu"


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array {value.shape} of {value.dtype}"
    return f"a {type(value).__name__}"


def some(values: NDArray[Any], noun: str = "values") -> str:
    """The count and the first few, e.g. ``2 classes (3, 7)``."""
    shown = ", ".join(
        f"{value:g}" if values.dtype.kind == "f" else str(value) for value in values[:5]
    )
    return f"{len(values)} {noun} ({shown}{', ...' if len(values) > 5 else ''})"
