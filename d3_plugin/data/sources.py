"""Data sets by name or folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from d3_plugin.data.dataset import GZSLData
from d3_plugin.data.digits import DRAWS, load_digits_gzsl
from d3_plugin.data.matfolder import data_files, load_mat_folder
from d3_plugin.errors import DataError

_BUILT_IN = {"digits": 0, **{f"digits-{draw}": draw for draw in range(len(DRAWS))}}


def digest(spec: str, attributes: str | os.PathLike[str] | None = None) -> str:
    """Fingerprint of the files that :func:`load` reads; empty for built-in data.

    Raises:
        OSError: a file is missing or cannot be read.
    """
    folder = _folder(spec)
    if folder is None:
        return ""
    content = hashlib.sha256()
    for file in data_files(folder, attributes):
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                content.update(chunk)
    return content.hexdigest()[:16]


def _folder(spec: str) -> Path | None:
    if not spec or spec in _BUILT_IN:
        return None
    places = Path(spec), Path(os.environ.get("D3_DATA", ".")) / spec
    return next(filter(os.path.isdir, places), None)  # unlike Path's, quiet about invalid names


def load(
    spec: str | os.PathLike[str],
    *,
    attributes: str | os.PathLike[str] | None = None,
    validation: bool = False,
) -> GZSLData:
    """Load a data set by name or folder.

    Args:
        spec: ``"digits"`` (draw 0), ``"digits-<draw>"``, or the path of a folder with
            ``res101.mat`` and ``att_splits.mat``; write ``./digits`` for a folder of that name.
            A relative path is also looked for in the folder named by the environment variable
            ``D3_DATA``.
        attributes, validation: for folders; see :func:`~d3_plugin.data.load_mat_folder`.

    Raises:
        DataError: no such data set, or the folder is unusable.
        MissingExtraError: a file of the folder is HDF5 and h5py is not installed.
    """
    if not isinstance(spec, (str, os.PathLike)):
        raise DataError(f"a data set must be a str or a path, got {type(spec).__name__}")
    spec = os.fspath(spec)
    if spec in _BUILT_IN:
        if attributes is not None or validation:
            raise DataError(f"{spec!r} has one attribute table and no validation split")
        return load_digits_gzsl(_BUILT_IN[spec])
    if (folder := _folder(spec)) is not None:
        return load_mat_folder(folder, attributes=attributes, validation=validation)
    raise DataError(
        f"no data set {spec!r}: expected 'digits', 'digits-0' to 'digits-{len(DRAWS) - 1}', or an "
        "existing folder with res101.mat and att_splits.mat (also looked for in $D3_DATA)"
    )
