"""Checks across the variables of a data folder; each skips what could not be read."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from d3_plugin.data._matfile import some
from d3_plugin.errors import Problems

SETS = ("trainval_loc", "test_seen_loc", "test_unseen_loc")


def check_labels(
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


def check_sets(
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
    for first, second in combinations(SETS, 2):
        both = np.intersect1d(given(sets[first]), given(sets[second]))
        problems.check(
            not both.size,
            f"{first} and {second} share {some(both, 'samples')}; expected disjoint sets: "
            "take the shared samples out of one of them",
        )


def check_classes(
    sets: dict[str, NDArray[np.int64] | None],
    labels: NDArray[np.int64] | None,
    problems: Problems,
) -> None:
    if labels is None:
        return
    occurring: dict[str, NDArray[np.int64]] = {}
    for key, index in sets.items():
        inside = given(index)
        inside = inside[(inside >= 1) & (inside <= len(labels))]
        if inside.size:  # a missing or empty set and indices out of range are reported elsewhere
            occurring[key] = np.unique(labels[inside - 1])
    train, seen, unseen = (occurring.get(key) for key in SETS)
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


def check_finite(
    features: NDArray[np.float32] | None,
    att: NDArray[np.float32] | None,
    sets: dict[str, NDArray[np.int64] | None],
    problems: Problems,
) -> None:
    if features is not None:
        used = np.concatenate([given(index) for index in sets.values()])
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


def given(index: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """An index set, empty where it could not be read."""
    return np.empty(0, dtype=np.int64) if index is None else index
