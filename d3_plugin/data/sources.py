"""Data sets by the short name that command lines use."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from d3_plugin.data.dataset import GZSLData
from d3_plugin.data.digits import DRAWS, load_digits_gzsl
from d3_plugin.data.matfolder import load_mat_folder
from d3_plugin.errors import DataError

_BUILT_IN = re.compile(r"digits(?:-(\d{1,9}))?", flags=re.ASCII)


def digest(spec: str) -> str:
    """Fingerprint of a data folder's two files; empty for built-in data."""
    folder = _folder(spec)
    if folder is None:
        return ""
    content = hashlib.sha256()
    for name in ("res101.mat", "att_splits.mat"):
        content.update((folder / name).read_bytes())
    return content.hexdigest()[:16]


def _folder(spec: str) -> Path | None:
    for folder in (Path(spec), Path(os.environ.get("D3_DATA", ".")) / spec):
        try:
            if spec and not _BUILT_IN.fullmatch(spec) and folder.is_dir():
                return folder
        except (OSError, ValueError):  # no name that a folder can have
            continue
    return None


def load(spec: str | os.PathLike[str]) -> GZSLData:
    """Load a data set by name or folder.

    Args:
        spec: ``"digits"`` (draw 0), ``"digits-<draw>"``, or the path of a folder with
            ``res101.mat`` and ``att_splits.mat``; write ``./digits`` for a folder of that name.
            A folder that is not found is looked for in the one that the environment variable
            ``D3_DATA`` names.

    Raises:
        DataError: no such data set, or the folder is unusable.
        MissingExtraError: the folder's files are MATLAB v7.3 and h5py is not installed.
    """
    if not isinstance(spec, (str, os.PathLike)):
        raise DataError(f"a data set is named by a text or a path, got {type(spec).__name__}")
    spec = os.fspath(spec)
    built_in = _BUILT_IN.fullmatch(spec)
    if built_in and (draw := int(built_in[1] or 0)) < len(DRAWS):
        return load_digits_gzsl(draw)
    if (folder := _folder(spec)) is not None:
        return load_mat_folder(folder)
    raise DataError(
        f"no data set {spec!r}: expected 'digits', 'digits-0' to 'digits-{len(DRAWS) - 1}', or an "
        "existing folder with res101.mat and att_splits.mat (also looked for in $D3_DATA)"
    )
