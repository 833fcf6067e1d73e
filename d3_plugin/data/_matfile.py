"""Reading single variables out of MATLAB files, v5 and v7.3 (HDF5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

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
    import scipy.io

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
