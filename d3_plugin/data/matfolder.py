"""The field's data format: a folder with ``res101.mat`` and ``att_splits.mat``."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from d3_plugin.checks import describe
from d3_plugin.data._matfile import read, text
from d3_plugin.data.build import from_rows, warn_of_attributes
from d3_plugin.data.dataset import GZSLData
from d3_plugin.data.parts import as_ids, as_rows
from d3_plugin.data.validation import hold_out
from d3_plugin.errors import D3Warning, DataError, Problems
from d3_plugin.files import remove_stale, write_folder

_SETS = {"train": "trainval_loc", "test_seen": "test_seen_loc", "test_unseen": "test_unseen_loc"}
_VALIDATION_SETS = ("train_loc", "val_loc")
_NAMES = "allclasses_names"


def load_mat_folder(
    path: str | os.PathLike[str],
    *,
    attributes: str | os.PathLike[str] | None = None,
    validation: bool = False,
) -> GZSLData:
    """Load a data set in the format of Xian et al. (the "Proposed Split").

    Training rows are those of ``trainval_loc``. ``train_loc`` and ``val_loc`` are used only with
    ``validation``: in the published FLO.mat they contain test rows. Leaves out classes without rows
    in the split and seen classes without test rows; the others keep their order and get the ids
    ``0..C-1``.

    Args:
        path: folder with two MATLAB files, v5 or v7.3 (HDF5, needs the extra ``hdf5``), or with
            ``.npz`` or ``.h5`` files of the same names and keys; labels and indices are 1-based:

            - ``res101.mat``: ``features`` (D, N), ``labels`` N values in ``1..C``.
            - ``att_splits.mat`` (or else ``sent_splits.mat``): ``att`` (A, C); ``trainval_loc``,
              ``test_seen_loc`` and ``test_unseen_loc``, disjoint sets of values in ``1..N``;
              optionally ``allclasses_names``, a cell array of C names.
        attributes: another file to read ``att`` from: a path, or a name in the folder.
        validation: use the files' own validation split: the classes of ``val_loc`` play unseen, and
            20 % of the rows of each class of ``train_loc`` become ``test_seen``. For random splits
            see :func:`d3_plugin.data.pseudo_unseen`.

    Returns:
        The data set, named after the folder, with unscaled float32 features.

    Raises:
        DataError: something in the folder is unusable, or ``validation`` would use test rows;
            lists every problem.
        MissingExtraError: a file is HDF5 and h5py is not installed.

    Warns:
        D3Warning: seen classes are left out, class names cannot be read, attributes cannot
            distinguish classes, or ``train_loc`` or ``val_loc`` contain test rows.

    Source: Xian, Lampert, Schiele, Akata, "Zero-Shot Learning — A Comprehensive Evaluation of the
    Good, the Bad and the Ugly", TPAMI 2019.
    """
    folder = Path(path)
    problems = Problems(f"data folder {str(folder)!r}")
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        problems.add(f"{what}; give the folder with res101.mat and att_splits.mat")
        problems.raise_as(DataError)

    rows_file, splits_file, *other = data_files(folder, attributes)
    needed = [*_SETS.values(), *(_VALIDATION_SETS if validation else ())]
    optional = [_NAMES, *(() if validation else _VALIDATION_SETS)]
    raw = read(rows_file, ("features", "labels"), (), problems)
    raw |= read(splits_file, ([] if other else ["att"]) + needed, optional, problems)
    for file in other:
        raw |= read(file, ("att",), (), problems)
    vectors = _matrix(raw, "att", "(A, C), one column per class", problems)
    labels = _ids(raw, "labels", problems)
    found = {key: _ids(raw, key, problems) for key in needed}
    sets = {part: ids for part, key in _SETS.items() if (ids := found[key]) is not None}
    leaks = _leaks(raw, sets)
    names = _SETS
    if validation:
        problems.found += [f"{leak}; these cannot be used for validation" for leak in leaks]
        names = {"train": "train_loc", "test_seen": "a part of train_loc", "test_unseen": "val_loc"}
        sets = {}
        if (unseen := found["val_loc"]) is not None:
            sets["test_unseen"] = unseen
        if (train := found["train_loc"]) is not None and labels is not None:
            inside = train[(train >= 0) & (train < len(labels))]
            sets["train"], sets["test_seen"] = hold_out(labels, inside, seed=0)
    data = from_rows(
        folder.resolve().name + ("-val" if validation else ""),
        _matrix(raw, "features", "(D, N), one column per sample", problems),
        labels,
        vectors,
        sets,
        problems,
        names={"attributes": "att", "class_names": _NAMES, **names},
        class_names=[] if vectors is None else _class_names(raw, len(vectors)),
        first=1,
    )
    if leaks:
        warnings.warn(
            f"{problems.subject}: {', '.join(leaks)}. This loader does not use train_loc and "
            "val_loc; code that validates on them leaks test rows",
            D3Warning,
            stacklevel=2,
        )
    return warn_of_attributes(data)


def data_files(folder: Path, attributes: str | os.PathLike[str] | None = None) -> list[Path]:
    """The files of a data folder: features, splits and, if given, attributes."""
    found = []
    for stems in (("res101",), ("att_splits", "sent_splits")):
        files = [folder / f"{stem}{end}" for stem in stems for end in (".mat", ".npz", ".h5")]
        found.append(next(filter(Path.is_file, files), files[0]))
    if attributes is not None:
        file = Path(attributes)
        found.append(file if file.is_file() else folder / file)
    return found


def save_mat_folder(data: GZSLData, folder: Path) -> None:
    """See :meth:`GZSLData.save`."""
    features, labels = (
        [getattr(data, f"{part}_{kind}").cpu().numpy() for part in _SETS]
        for kind in ("features", "labels")
    )
    res = {"features": np.concatenate(features).T, "labels": np.concatenate(labels)[:, None] + 1}
    splits = {"att": data.attributes.T.cpu().numpy()}
    first = 1
    for key, own in zip(_SETS.values(), labels, strict=True):
        splits[key] = np.arange(first, first + len(own))[:, None]
        first += len(own)
    splits[_NAMES] = np.array(data.class_names, dtype=object)[:, None]
    remove_stale(folder.parent)
    write_folder(folder, {"res101.mat": _v5_bytes(res), "att_splits.mat": _v5_bytes(splits)})


def _v5_bytes(variables: Mapping[str, NDArray[Any]]) -> bytes:
    import scipy.io

    content = io.BytesIO()
    scipy.io.savemat(content, dict(variables))
    # Equal data make equal files: SciPy writes the time here.
    return b"MATLAB 5.0 MAT-file, written by d3_plugin".ljust(116) + content.getvalue()[116:]


def _matrix(raw: Mapping[str, Any], key: str, shape: str, problems: Problems) -> Tensor | None:
    """MATLAB's columns as rows, one per sample or class."""
    matrix = as_rows(key, raw[key], problems, shape) if key in raw else None
    return None if matrix is None else matrix.T


def _ids(raw: Mapping[str, Any], key: str, problems: Problems) -> Tensor | None:
    """MATLAB's numbers, counted from 0 instead of 1."""
    ids = as_ids(key, raw[key], problems) if key in raw else None
    return None if ids is None else ids - 1


def _class_names(raw: Mapping[str, Any], count: int) -> list[str]:
    """The names of the classes; [] without names, and with a warning if they are unreadable."""
    if (value := raw.get(_NAMES)) is None:
        return []
    try:
        # A numeric matrix holds characters, one row per class.
        names = [text(cell) for cell in (value if value.dtype.kind in "ui" else value.ravel())]
        if len(names) == count:
            return names
        why = f"{len(names)} names for {count} classes"
    except (AttributeError, TypeError, ValueError):
        why = f"{describe(value)} holds no names"
    warnings.warn(f"{_NAMES} is ignored and classes are numbered: {why}", D3Warning, stacklevel=3)
    return []


def _leaks(raw: Mapping[str, Any], sets: Mapping[str, Tensor]) -> list[str]:
    found = []
    for key in _VALIDATION_SETS:
        index = _ids(raw, key, Problems(key))  # its problems matter only where it is used
        for part in ("test_seen", "test_unseen"):
            test = sets.get(part)
            if index is not None and test is not None and (shared := torch.isin(test, index).sum()):
                found.append(f"{key} contains {shared} of the {len(test)} samples of {_SETS[part]}")
    return found
