"""Validation problems cut from training classes, so that test data choose nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from torch import Tensor

from d3_plugin.checks import is_number
from d3_plugin.data.dataset import GZSLData
from d3_plugin.errors import DataError, InputError, Problems


def without_test_rows(data: GZSLData) -> GZSLData:
    """``data`` with one row of zeros for each class in place of its test rows.

    Whatever is chosen on the result, or on :func:`pseudo_unseen` of it, cannot have seen a test
    row: there is none left.
    """

    def zeros(classes: Tensor) -> Tensor:
        return data.train_features.new_zeros(len(classes), data.feature_dim)

    return replace(
        data,
        test_seen_features=zeros(data.seen_classes),
        test_seen_labels=data.seen_classes,
        test_unseen_features=zeros(data.unseen_classes),
        test_unseen_labels=data.unseen_classes,
    )


def pseudo_unseen(data: GZSLData, fraction: float = 0.25, seed: int = 0) -> GZSLData:
    """Cut a class-disjoint GZSL problem out of the training rows of ``data``.

    A random ``fraction`` of the seen classes plays unseen; all their training rows become
    ``test_unseen``. Of each remaining class 20 % of the training rows (rounded up) become
    ``test_seen``. The real unseen classes and all test rows of ``data`` do not appear. Features
    are taken as they are; call :meth:`GZSLData.scaled` on the result, not before, so that the
    scaling does not see the rows that play unseen.

    Args:
        data: a problem with S >= 3 seen classes, at least 2 training rows in each.
        fraction: in (0, 1); ``round(fraction * S)`` classes play unseen, at least 1, at most S-1.
        seed: 0..2**32-1; the same seed gives the same problem. Global generators are not touched.

    Returns:
        A problem over the S seen classes, re-indexed in order to ``0..S-1``, on the device of
        ``data``.

    Raises:
        InputError: ``fraction``, ``seed`` or the number of seen classes does not fit.
        DataError: seen classes with fewer than 2 training rows; lists them.

    Source: the class-disjoint validation split of Xian et al., TPAMI 2019, section 4.
    """
    problems = Problems("pseudo_unseen")
    if not isinstance(data, GZSLData):
        raise InputError(f"pseudo_unseen: data must be a GZSLData, got {type(data).__name__}")
    classes = data.seen_classes.cpu().numpy()
    problems.check(
        is_number(fraction) and 0 < fraction < 1,
        f"fraction must be between 0 and 1, exclusive, got {fraction!r}",
    )
    problems.check(
        isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**32,
        f"seed must be a whole number in 0..2**32-1, got {seed!r}",
    )
    problems.check(
        len(classes) >= 3,
        f"data set {data.name!r} has {len(classes)} seen classes; at least 3 are needed to let "
        "some of them play unseen",
    )
    problems.raise_as(InputError)

    # Seen classes are sorted, so the position of a class is its new id.
    labels = np.searchsorted(classes, data.train_labels.cpu().numpy())
    counts = np.bincount(labels, minlength=len(classes))
    small = [data.class_names[classes[c]] for c in np.flatnonzero(counts < 2)]
    if small:
        raise DataError(
            f"data set {data.name!r}: {len(small)} seen classes with fewer than 2 training rows "
            f"({', '.join(small[:10])}{', ...' if len(small) > 10 else ''}); every seen class "
            "needs one row to train on and one to test on"
        )

    num_unseen = min(max(round(fraction * len(classes)), 1), len(classes) - 1)
    rng = np.random.default_rng(seed)
    unseen = np.sort(rng.choice(len(classes), size=num_unseen, replace=False))
    seen = np.setdiff1d(np.arange(len(classes)), unseen)

    train: list[NDArray[np.int64]] = []
    test: list[NDArray[np.int64]] = []
    for c in seen:  # one class at a time: a joint stratified draw may leave a small class out
        kept, held_out = train_test_split(
            np.flatnonzero(labels == c), test_size=0.2, random_state=seed
        )
        train.append(kept)
        test.append(held_out)
    train_rows, test_seen_rows = np.concatenate(train), np.concatenate(test)
    test_unseen_rows = np.flatnonzero(np.isin(labels, unseen))

    features, device = data.train_features, data.train_features.device

    def tensor(values: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(values).to(device)

    return GZSLData(
        name=f"{data.name}-val{seed}",
        train_features=features[tensor(train_rows)],
        train_labels=tensor(labels[train_rows]),
        test_seen_features=features[tensor(test_seen_rows)],
        test_seen_labels=tensor(labels[test_seen_rows]),
        test_unseen_features=features[tensor(test_unseen_rows)],
        test_unseen_labels=tensor(labels[test_unseen_rows]),
        attributes=data.attributes[data.seen_classes],
        seen_classes=tensor(seen),
        unseen_classes=tensor(unseen),
        class_names=tuple(data.class_names[c] for c in classes),
    )
