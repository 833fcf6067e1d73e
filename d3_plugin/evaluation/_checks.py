"""Checks of the NumPy arrays that metrics are computed from."""

from __future__ import annotations

from typing import Any

import numpy as np

from d3_plugin.errors import InputError, Problems


def check_class_ids(function: str, **arrays: Any) -> None:
    """Every array is an integer (N,) one.

    Raises:
        InputError: lists each that is not.
    """
    problems = Problems(function)
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            problems.add(f"{name} must be a NumPy array, got {type(array).__name__}")
            continue
        integer = np.can_cast(array.dtype, np.int64) and array.dtype != bool
        problems.check(
            array.ndim == 1 and integer,
            f"{name} must be integer class ids (N,), got {array.dtype} {array.shape}",
        )
    problems.raise_as(InputError)


def check_numbers(function: str, ndim: int, **arrays: Any) -> None:
    """Every array has ``ndim`` dimensions and real numbers.

    Raises:
        InputError: lists each that has not.
    """
    problems = Problems(function)
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
            kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            problems.add(f"{name} must be a NumPy array of numbers, got {kind}")
            continue
        problems.check(array.ndim == ndim, f"{name} must have {ndim} dimensions, got {array.shape}")
    problems.raise_as(InputError)


def check_scores(function: str, scores: Any, labels: Any, seen: Any, unseen: Any) -> None:
    """Scores (N, C) with labels (N,) of a split of some of the classes 0..C-1.

    Raises:
        InputError: lists what is wrong.
    """
    check_numbers(function, 2, scores=scores)
    check_class_ids(function, labels=labels, seen_classes=seen, unseen_classes=unseen)
    problems = Problems(function)
    problems.check(
        labels.shape == scores.shape[:1],
        f"scores {scores.shape} and labels {labels.shape} must be (N, C) and (N,)",
    )
    problems.check(bool(np.isfinite(scores).all()), "scores contain NaN or Inf")
    split = np.concatenate([seen, unseen])
    problems.check(
        min(len(seen), len(unseen)) > 0 and len(np.unique(split)) == len(split),
        "there must be seen classes and unseen ones, each named once",
    )
    outside = split[(split < 0) | (split >= scores.shape[1])]
    problems.check(
        not outside.size,
        f"classes {outside[:5].tolist()} have no column in scores {scores.shape}",
    )
    foreign = np.setdiff1d(labels, split)
    problems.check(
        not foreign.size, f"rows of classes not asked for: {foreign[:5].tolist()}; leave them out"
    )
    problems.raise_as(InputError)
