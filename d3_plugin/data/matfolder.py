"""The field's data format: a folder with ``res101.mat`` and ``att_splits.mat``."""

from __future__ import annotations

import os
import warnings
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from d3_plugin.data._matfile import class_names, integers, matrix, read, some
from d3_plugin.data.dataset import GZSLData
from d3_plugin.errors import D3Warning, DataError, Problems

_SETS = ("trainval_loc", "test_seen_loc", "test_unseen_loc")
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
    raw |= read(folder / "att_splits.mat", ("att", *_SETS), (_NAMES, *_UNUSED_SETS), problems)
    features = matrix(raw, "features", "(D, N), one column per sample", problems)
    att = matrix(raw, "att", "(A, C), one column per class", problems)
    labels = integers(raw, "labels", problems)
    sets = {key: integers(raw, key, problems) for key in _SETS}
    names = class_names(raw, _NAMES, att, problems)

    _check_labels(features, labels, att, names, problems)
    num_rows = len(labels) if labels is not None else None
    if num_rows is None and features is not None:
        num_rows = features.shape[1]
    _check_sets(sets, num_rows, problems)
    _check_classes(sets, labels, problems)
    _check_finite(features, att, sets, problems)
    problems.raise_as(DataError)
    if features is None or labels is None or att is None:  # reported above; for the type checker
        raise DataError(f"{problems.subject}: incomplete")
    _warn_of_leaks(folder, raw, sets)

    train, seen_test, unseen_test = (_given(sets[key]) - 1 for key in _SETS)
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


# Checks across variables; each skips what could not be read.


def _check_labels(
    features: NDArray[np.float32] | None,
    labels: NDArray[np.int64] | None,
    att: NDArray[np.float32] | None,
    names: list[str],
    problems: Problems,
) -> None:
    if labels is None:
        return
    if features is not None:
        problems.check(
            features.shape[1] == len(labels),
            f"features {features.shape} has {features.shape[1]} columns (samples), labels has "
            f"{len(labels)} values; expected one label per column of features"
            + ("; transpose features" if features.shape[0] == len(labels) else ""),
        )
    low = labels[labels < 1]
    problems.check(
        not low.size, f"labels: {some(low)} below 1; labels count classes from 1, as in MATLAB"
    )
    if att is not None:
        high = np.unique(labels[labels > att.shape[1]])
        problems.check(
            not high.size,
            f"labels: {some(high, 'classes')} without attributes; expected one column of att "
            f"{att.shape} per class",
        )
        # A transposed att can have more columns than classes and would then load as nonsense.
        count = labels.max(initial=0)
        problems.check(
            not (att.shape[0] == count != att.shape[1]) or len(names) == att.shape[1],
            f"att {att.shape} has as many rows as labels has classes ({count}); expected (A, C), "
            "one column per class: transpose att",
        )


def _check_sets(
    sets: dict[str, NDArray[np.int64] | None], num_rows: int | None, problems: Problems
) -> None:
    for key, index in sets.items():
        if index is None:
            continue
        problems.check(index.size > 0, f"{key} is empty; expected at least one sample index")
        values, counts = np.unique(index, return_counts=True)
        twice = values[counts > 1]
        problems.check(
            not twice.size,
            f"{key}: {some(twice, 'indices')} more than once; list every sample once",
        )
        if num_rows is not None:
            outside = index[(index < 1) | (index > num_rows)]
            problems.check(
                not outside.size,
                f"{key}: {some(outside, 'indices')} out of range; expected 1..{num_rows} "
                "(the samples of res101.mat, counted from 1)",
            )
    for first, second in combinations(_SETS, 2):
        both = np.intersect1d(_given(sets[first]), _given(sets[second]))
        problems.check(
            not both.size,
            f"{first} and {second} share {some(both, 'samples')}; expected disjoint sets: "
            "take the shared samples out of one of them",
        )


def _check_classes(
    sets: dict[str, NDArray[np.int64] | None],
    labels: NDArray[np.int64] | None,
    problems: Problems,
) -> None:
    if labels is None:
        return
    occurring: dict[str, NDArray[np.int64]] = {}
    for key, index in sets.items():
        inside = _given(index)
        inside = inside[(inside >= 1) & (inside <= len(labels))]
        if inside.size:  # a missing or empty set and indices out of range are reported elsewhere
            occurring[key] = np.unique(labels[inside - 1])
    train, seen, unseen = (occurring.get(key) for key in _SETS)
    if train is not None and unseen is not None:
        both = np.intersect1d(train, unseen)
        problems.check(
            not both.size,
            f"{some(both, 'classes')} both seen (in trainval_loc) and unseen (in "
            "test_unseen_loc); expected disjoint classes: remove their samples from one set",
        )
    if train is not None and seen is not None:
        extra, lacking = np.setdiff1d(seen, train), np.setdiff1d(train, seen)
        problems.check(
            not extra.size,
            f"test_seen_loc: {some(extra, 'classes')} not in trainval_loc; expected samples of "
            "seen classes only: remove them",
        )
        problems.check(
            not lacking.size,
            f"{some(lacking, 'seen classes')} without samples in test_seen_loc; expected held-out "
            "samples of every class of trainval_loc: move some of theirs there",
        )


def _check_finite(
    features: NDArray[np.float32] | None,
    att: NDArray[np.float32] | None,
    sets: dict[str, NDArray[np.int64] | None],
    problems: Problems,
) -> None:
    if features is not None:
        used = np.concatenate([_given(index) for index in sets.values()])
        bad = np.intersect1d(used, np.flatnonzero(~np.isfinite(features).all(axis=0)) + 1)
        problems.check(
            not bad.size,
            f"features: {some(bad, 'samples')} with NaN or Inf; expected finite float32 values: "
            "extract them again or take them out of the index sets",
        )
    if att is not None:
        bad = np.flatnonzero(~np.isfinite(att).all(axis=0)) + 1
        problems.check(
            not bad.size,
            f"att: {some(bad, 'classes')} with NaN or Inf; expected finite float32 values",
        )


def _warn_of_leaks(
    folder: Path, raw: dict[str, Any], sets: dict[str, NDArray[np.int64] | None]
) -> None:
    leaks = []
    for key in _UNUSED_SETS:
        index = _given(integers(raw, key, Problems(key)))  # unused, so its faults do not matter
        for test in _SETS[1:]:
            shared = len(np.intersect1d(index, _given(sets[test])))
            if shared:
                leaks.append(
                    f"{key} contains {shared} of the {len(_given(sets[test]))} samples of {test}"
                )
    if leaks:
        warnings.warn(
            f"data folder {str(folder)!r}: {', '.join(leaks)}. This loader does not use train_loc "
            "and val_loc; code that validates on them leaks test samples.",
            D3Warning,
            stacklevel=3,
        )


def _given(index: NDArray[np.int64] | None) -> NDArray[np.int64]:
    return np.empty(0, dtype=np.int64) if index is None else index
