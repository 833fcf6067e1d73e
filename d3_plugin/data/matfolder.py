"""The field's data format: a folder with ``res101.mat`` and ``att_splits.mat``."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from d3_plugin.data._matchecks import (
    SETS,
    check_classes,
    check_finite,
    check_labels,
    check_sets,
    given,
)
from d3_plugin.data._matfile import class_names, integers, matrix, read
from d3_plugin.data.dataset import GZSLData
from d3_plugin.errors import D3Warning, DataError, Problems

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
    raw |= read(folder / "att_splits.mat", ("att", *SETS), (_NAMES, *_UNUSED_SETS), problems)
    features = matrix(raw, "features", "(D, N), one column per sample", problems)
    att = matrix(raw, "att", "(A, C), one column per class", problems)
    labels = integers(raw, "labels", problems)
    sets = {key: integers(raw, key, problems) for key in SETS}
    names = class_names(raw, _NAMES, att, problems)

    check_labels(features, labels, att, names, problems)
    num_rows = len(labels) if labels is not None else None
    if num_rows is None and features is not None:
        num_rows = features.shape[1]
    check_sets(sets, num_rows, problems)
    check_classes(sets, labels, problems)
    check_finite(features, att, sets, problems)
    problems.raise_as(DataError)
    if features is None or labels is None or att is None:  # reported above; for the type checker
        raise DataError(f"{problems.subject}: incomplete")
    _warn_of_leaks(folder, raw, sets)

    train, seen_test, unseen_test = (given(sets[key]) - 1 for key in SETS)
    classes = np.unique(labels[np.concatenate((train, unseen_test))])
    ids = np.searchsorted(classes, labels)  # right for the classes in use, others are not read

    def rows(index: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(features.T[index]), torch.from_numpy(ids[index])

    train_features, train_labels = rows(train)
    test_seen_features, test_seen_labels = rows(seen_test)
    test_unseen_features, test_unseen_labels = rows(unseen_test)
    return GZSLData(
        name=folder.resolve().name,
        train_features=train_features,
        train_labels=train_labels,
        test_seen_features=test_seen_features,
        test_seen_labels=test_seen_labels,
        test_unseen_features=test_unseen_features,
        test_unseen_labels=test_unseen_labels,
        attributes=torch.from_numpy(np.ascontiguousarray(att.T[classes - 1])),
        seen_classes=torch.from_numpy(np.unique(ids[train])),
        unseen_classes=torch.from_numpy(np.unique(ids[unseen_test])),
        class_names=tuple(names[c - 1] if names else f"class {c}" for c in classes.tolist()),
    )


def _warn_of_leaks(
    folder: Path, raw: dict[str, Any], sets: dict[str, NDArray[np.int64] | None]
) -> None:
    leaks = []
    for key in _UNUSED_SETS:
        index = given(integers(raw, key, Problems(key)))  # unused, so its faults do not matter
        for test in SETS[1:]:
            shared = len(np.intersect1d(index, given(sets[test])))
            if shared:
                leaks.append(
                    f"{key} contains {shared} of the {len(given(sets[test]))} samples of {test}"
                )
    if leaks:
        warnings.warn(
            f"data folder {str(folder)!r}: {', '.join(leaks)}. This loader does not use train_loc "
            "and val_loc; code that validates on them leaks test samples.",
            D3Warning,
            stacklevel=3,
        )
