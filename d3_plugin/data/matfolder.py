"""The field's data format: a folder with ``res101.mat`` and ``att_splits.mat``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d3_plugin.data._checks import as_ids, as_rows, describe
from d3_plugin.data._matfile import read
from d3_plugin.data.build import from_rows
from d3_plugin.data.dataset import GZSLData
from d3_plugin.errors import D3Warning, DataError, Problems

_SETS = {"train": "trainval_loc", "test_seen": "test_seen_loc", "test_unseen": "test_unseen_loc"}
_UNUSED_SETS = ("train_loc", "val_loc")
_NAMES = "allclasses_names"


def load_mat_folder(path: str | os.PathLike[str]) -> GZSLData:
    """Load a data set in the format of Xian et al. (the "Proposed Split").

    Training rows are those of ``trainval_loc``. ``train_loc`` and ``val_loc`` are never used: in
    the published FLO.mat they contain test rows; cut validation classes out of the training rows
    with :func:`d3_plugin.data.pseudo_unseen` instead. Classes that occur in no split are dropped;
    the others keep their order and get the ids ``0..C-1``.

    Args:
        path: folder with two MATLAB files, v5 or v7.3 (HDF5, needs the extra ``hdf5``); labels
            and indices are 1-based:

            - ``res101.mat``: ``features`` (D, N), ``labels`` N values in ``1..C``.
            - ``att_splits.mat``: ``att`` (A, C); ``trainval_loc``, ``test_seen_loc`` and
              ``test_unseen_loc``, disjoint sets of values in ``1..N``; optionally
              ``allclasses_names``, a cell array of C names.

    Returns:
        The data set, named after the folder; float32 features as they are in the file (unscaled).

    Raises:
        DataError: something in the folder is unusable; lists everything wrong at once.
        MissingExtraError: a file is v7.3 and h5py is not installed.

    Warns:
        D3Warning: ``train_loc`` or ``val_loc`` contain test rows.

    Source: Xian, Lampert, Schiele, Akata, "Zero-Shot Learning — A Comprehensive Evaluation of the
    Good, the Bad and the Ugly", TPAMI 2019.
    """
    folder = Path(path)
    problems = Problems(f"data folder {str(folder)!r}")
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        problems.add(f"{what}; give the folder that holds res101.mat and att_splits.mat")
        problems.raise_as(DataError)

    raw = read(folder / "res101.mat", ("features", "labels"), (), problems)
    wanted = ("att", *_SETS.values())
    raw |= read(folder / "att_splits.mat", wanted, (_NAMES, *_UNUSED_SETS), problems)
    features = _matrix(raw, "features", "(D, N), one column per sample", problems)
    attributes = _matrix(raw, "att", "(A, C), one column per class", problems)
    labels = _ids(raw, "labels", problems)
    found = {part: _ids(raw, key, problems) for part, key in _SETS.items()}
    sets = {part: ids for part, ids in found.items() if ids is not None}
    class_names = _class_names(raw, problems)
    data = from_rows(
        folder.resolve().name,
        features,
        labels,
        attributes,
        sets,
        problems,
        names={"attributes": "att", "class_names": _NAMES, **_SETS},
        class_names=class_names,
        first=1,
    )
    _warn_of_leaks(folder, raw, sets)
    return data


def _matrix(raw: Mapping[str, Any], key: str, shape: str, problems: Problems) -> Tensor | None:
    """One row per sample or class, where MATLAB has a column."""
    matrix = as_rows(key, raw[key], problems, shape) if key in raw else None
    return None if matrix is None else matrix.T


def _ids(raw: Mapping[str, Any], key: str, problems: Problems) -> Tensor | None:
    """Numbers from 0, where MATLAB counts from 1."""
    ids = as_ids(key, raw[key], problems) if key in raw else None
    return None if ids is None else ids - 1


def _class_names(raw: Mapping[str, Any], problems: Problems) -> list[str]:
    """The names of a cell array; [] if there are none."""
    cells = raw.get(_NAMES, np.empty(0, dtype=object))
    if not isinstance(cells, np.ndarray) or cells.dtype.kind not in "OU":
        problems.add(f"{_NAMES} is {describe(cells)}; expected a cell array of names, or none")
        return []
    return ["".join(str(part) for part in np.ravel(cell)).strip() for cell in cells.ravel()]


def _warn_of_leaks(folder: Path, raw: Mapping[str, Any], sets: Mapping[str, Tensor]) -> None:
    leaks = []
    for key in _UNUSED_SETS:
        index = _ids(raw, key, Problems(key))  # unused, so its faults do not matter
        for test in ("test_seen", "test_unseen"):
            if index is not None and (shared := int(torch.isin(sets[test], index).sum())):
                leaks.append(
                    f"{key} contains {shared} of the {len(sets[test])} samples of {_SETS[test]}"
                )
    if leaks:
        warnings.warn(
            f"data folder {str(folder)!r}: {', '.join(leaks)}. This loader does not use train_loc "
            "and val_loc; code that validates on them leaks test samples.",
            D3Warning,
            stacklevel=3,
        )
