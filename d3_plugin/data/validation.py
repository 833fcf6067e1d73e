"""Validation problems cut from the training classes, so that nothing is tuned on test data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from d3_plugin.checks import Seed, Share, checked, some
from d3_plugin.data.assemble import Rows, from_rows
from d3_plugin.data.dataset import GZSLData
from d3_plugin.data.parts import DataProblems
from d3_plugin.errors import InputError, warn


def without_test_rows(data: GZSLData) -> GZSLData:
    """``data`` with one row of zeros for each class in place of its test rows.

    No choice made on the result, or on :func:`pseudo_unseen` of it, can depend on a test row.
    """
    seen, unseen = data.seen_classes, data.unseen_classes
    return replace(
        data,
        test_seen_features=data.train_features.new_zeros(len(seen), data.feature_dim),
        test_seen_labels=seen,
        test_unseen_features=data.train_features.new_zeros(len(unseen), data.feature_dim),
        test_unseen_labels=unseen,
    )


@checked
def pseudo_unseen(data: GZSLData, fraction: Share = 0.25, seed: Seed = 0) -> GZSLData:
    """Cut a class-disjoint GZSL problem out of the training rows of ``data``.

    A random ``fraction`` of the seen classes plays unseen; all their training rows become
    ``test_unseen``. Of each remaining class 20 % of the training rows (rounded up) become
    ``test_seen``. The real unseen classes and all test rows of ``data`` are left out. Features
    are not scaled: call :meth:`GZSLData.scaled` on the result, not before, so that the scaling
    does not see the rows that play unseen.

    Args:
        data: a problem with S >= 3 seen classes of at least 2 training rows each; classes with one
            training row are left out.
        fraction: in [0, 1]; ``round(fraction * S)`` classes play unseen, at least 1, at most S-1.
        seed: 0..2**32-1; the same seed gives the same problem. Global streams are not used.

    Returns:
        A problem over these S classes, re-indexed in order to ``0..S-1``, on the device of
        ``data``.

    Raises:
        InputError: ``fraction`` or ``seed`` is out of range, or there are too few seen classes.

    Warns:
        D3Warning: names the classes with one training row.

    Source: the class-disjoint validation split of Xian et al., TPAMI 2019, section 4.
    """
    # Seen classes are sorted, so the position of a class is its new id.
    ids = torch.searchsorted(data.seen_classes, data.train_labels)
    frequent = ids.bincount() >= 2
    usable, rare = frequent.nonzero()[:, 0], (~frequent).nonzero()[:, 0]
    count = len(usable)
    subject = f"pseudo_unseen of data set {data.name!r}"
    if count < 3:
        raise InputError(f"{subject}: {count} seen classes with 2 training rows; needs 3 at least")
    class_names = [data.class_names[c] for c in data.seen_classes.tolist()]
    if len(rare):
        left_out = some([class_names[c] for c in rare.tolist()], "classes")
        what = f"{left_out} with one training row are left out"
        warn(f"{subject}: {what}")
    num_unseen = min(max(round(fraction * count), 1), count - 1)
    drawn = np.random.default_rng(seed).choice(count, size=num_unseen, replace=False)
    plays_unseen = torch.isin(ids, usable[drawn])
    train, test_seen = hold_out(ids, (frequent[ids] & ~plays_unseen).nonzero()[:, 0], seed)
    sets = {"train": train, "test_seen": test_seen, "test_unseen": plays_unseen.nonzero()[:, 0]}
    attributes = data.attributes[data.seen_classes]
    rows = Rows(data.train_features, ids, attributes, sets, class_names)
    made = from_rows(rows, DataProblems(subject))
    name = f"{data.name}-val{seed}"
    return GZSLData(name=name, class_names=made.class_names, **made.parts)


def hold_out(labels: Tensor, rows: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Splits row numbers (n,) in two; the second part has 20 % of each class, rounded up."""
    from sklearn.model_selection import train_test_split

    classes = labels[rows].cpu().numpy()
    kept, held_out = [rows[:0]], [rows[:0]]
    # Class by class: a joint stratified draw may leave out a small class.
    for c in np.unique(classes):
        own = np.flatnonzero(classes == c)
        train, test = own, own[:0]  # a class with one row cannot be split
        if len(own) > 1:
            train, test = train_test_split(own, test_size=0.2, random_state=seed)
        kept.append(rows[torch.from_numpy(train).to(rows.device)])
        held_out.append(rows[torch.from_numpy(test).to(rows.device)])
    return torch.cat(kept), torch.cat(held_out)
