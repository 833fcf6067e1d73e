"""GZSL metrics from scores over all classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from d3_plugin.checks import Share, checked, describe
from d3_plugin.errors import InputError, Problems

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class GZSLMetrics:
    """Accuracies in [0, 1], means over classes.

    Attributes:
        unseen, seen: U and S, accuracy over all classes of unseen and of seen test rows.
        harmonic: H, the harmonic mean of U and S; 0 when both are 0.
        zsl: accuracy of unseen test rows if only unseen classes can be predicted.
        ausuc: area under the seen-unseen curve.
        oracle_harmonic: the best H on that curve, whose offset is chosen on test rows.
    """

    unseen: Share
    seen: Share
    harmonic: Share
    zsl: Share
    ausuc: Share
    oracle_harmonic: Share


@checked
def harmonic_mean(unseen: Share, seen: Share) -> float:
    """2US / (U + S), and 0 at 0/0.

    Raises:
        InputError: one of them is not a number in [0, 1].
    """
    return float(harmonic_means(np.asarray(unseen), np.asarray(seen)))


def harmonic_means(unseen: Floats, seen: Floats) -> Floats:
    """:func:`harmonic_mean`, element by element."""
    total = unseen + seen
    return np.where(total > 0, 2 * unseen * seen / np.where(total > 0, total, 1.0), 0.0)


def per_class_accuracy(labels: Ints, predicted: Ints, classes: Ints) -> float:
    """Mean over ``classes`` of the accuracy on each class's rows (average per-class top-1).

    Args:
        labels, predicted: (N,) class ids.
        classes: (K,) the classes to average over.

    Raises:
        InputError: arrays are not of integers, a class has no row (a silent 0 would change the
            mean), or a row is of another class.
    """
    given = {"labels": ("N", labels), "predicted": ("N", predicted), "classes": ("K", classes)}
    problems = check_arrays("per_class_accuracy", **given)
    _check_classes(labels, classes, problems)
    return _accuracy(labels, predicted, classes)


def _accuracy(labels: Ints, predicted: Ints, classes: Ints) -> float:
    rows = np.bincount(labels, minlength=classes.max() + 1)
    right = np.bincount(labels[predicted == labels], minlength=len(rows))
    return float((right[classes] / rows[classes]).mean())


def seen_unseen_curve(
    scores: Floats, labels: Ints, seen_classes: Ints, unseen_classes: Ints
) -> tuple[Floats, Floats, Floats]:
    """U and S for every offset subtracted from the seen classes' scores (Chao et al., ECCV 2016).

    Args:
        scores: (N, C) logits or log-probabilities of all test rows.
        labels: (N,) class ids.
        seen_classes, unseen_classes: (S,) and (U,), every class with a row.

    Returns:
        offsets, unseen, seen: each (M,), offsets descending from inf, U falls and S rises.
        The values hold for offsets in (offsets[i+1], offsets[i]].

    Raises:
        InputError: lists what is wrong: shapes, types, classes without a column.
    """
    check_scores("seen_unseen_curve", scores, labels, seen_classes, unseen_classes)
    return _curve(scores, labels, seen_classes, unseen_classes)


def _curve(scores: Floats, labels: Ints, seen: Ints, unseen: Ints) -> tuple[Floats, Floats, Floats]:
    is_seen = np.isin(labels, seen)
    best_seen, best_unseen = scores[:, seen], scores[:, unseen]
    margin = best_seen.max(axis=1) - best_unseen.max(axis=1)
    in_domain = np.where(
        is_seen, seen[best_seen.argmax(axis=1)], unseen[best_unseen.argmax(axis=1)]
    )
    weight = 1.0 / (np.bincount(labels)[labels] * np.where(is_seen, len(seen), len(unseen)))
    value = np.where(in_domain == labels, weight, 0.0)
    # A row is predicted as seen while its margin exceeds the offset: lower it row by row.
    order = np.argsort(-margin, kind="stable")
    gain, loss = np.where(is_seen, value, 0.0)[order], np.where(is_seen, 0.0, value)[order]
    last_of_tie = np.append(margin[order][1:] != margin[order][:-1], True)
    start = loss.sum()
    gained = np.append(0.0, np.cumsum(gain)[last_of_tie])
    left = np.append(start, (start - np.cumsum(loss))[last_of_tie])
    lowest = np.nextafter(margin[order][last_of_tie], -np.inf)
    return np.append(np.inf, lowest), np.clip(left, 0, 1), np.clip(gained, 0, 1)


def gzsl_metrics(
    scores: Floats, labels: Ints, seen_classes: Ints, unseen_classes: Ints
) -> GZSLMetrics:
    """All the metrics of one classifier.

    Args:
        scores: (N, C) finite logits or log-probabilities over all classes, of seen and unseen
            test rows together.
        labels: (N,) class ids 0..C-1.
        seen_classes, unseen_classes: (S,) and (U,), every class with a test row.

    Raises:
        InputError: lists every problem: shapes, scores that are not finite, absent classes.
    """
    from sklearn.metrics import auc

    check_scores("gzsl_metrics", scores, labels, seen_classes, unseen_classes)
    is_seen = np.isin(labels, seen_classes)
    predicted = scores.argmax(axis=1)
    unseen = _accuracy(labels[~is_seen], predicted[~is_seen], unseen_classes)
    seen = _accuracy(labels[is_seen], predicted[is_seen], seen_classes)
    among_unseen = unseen_classes[scores[~is_seen][:, unseen_classes].argmax(axis=1)]
    _, curve_u, curve_s = _curve(scores, labels, seen_classes, unseen_classes)
    return GZSLMetrics(
        unseen=unseen,
        seen=seen,
        harmonic=harmonic_mean(unseen, seen),
        zsl=_accuracy(labels[~is_seen], among_unseen, unseen_classes),
        ausuc=float(auc(curve_s, curve_u)),
        oracle_harmonic=float(harmonic_means(curve_u, curve_s).max()),
    )


def ood_auroc(seen_scores: Floats, unseen_scores: Floats) -> float:
    """AUROC of an in-distribution score for seen against unseen rows.

    Args:
        seen_scores, unseen_scores: (N,) and (M,), higher = more like seen data.

    Returns:
        In [0, 1]; 0.5 is chance.

    Raises:
        InputError: one side is empty, or scores are not finite.
    """
    from sklearn.metrics import roc_auc_score

    given = {"seen_scores": ("N", seen_scores), "unseen_scores": ("M", unseen_scores)}
    check_arrays("ood_auroc", **given).raise_as(InputError)
    scores = np.concatenate([seen_scores, unseen_scores])
    return float(roc_auc_score(np.arange(len(scores)) < len(seen_scores), scores))


def check_arrays(function: str, **arrays: tuple[str, Any]) -> Problems:
    """Problems of NumPy arrays: class ids where the name says so, otherwise finite numbers.

    Args:
        function: starts the message.
        arrays: by name, the letters of the dimensions, such as ``"NC"``, and the array. A letter
            stands for the same positive size in all arrays.

    Raises:
        InputError: a value is not such an array.
    """
    problems = Problems(function)
    sizes: dict[str, int] = {}
    for name, (letters, array) in arrays.items():
        numbers = not name.endswith(("labels", "classes", "predicted"))
        what = f"a NumPy array ({', '.join(letters)}) of {'numbers' if numbers else 'class ids'}"
        fits = isinstance(array, np.ndarray) and array.dtype.kind in ("fiu" if numbers else "iu")
        if not fits or array.ndim != len(letters) or array.dtype == np.uint64:
            problems.add(f"{name} must be {what}; got {describe(array)}")
    problems.raise_as(InputError)
    for name, (letters, array) in arrays.items():
        expected = tuple(sizes.setdefault(d, n) for d, n in zip(letters, array.shape, strict=True))
        problems.check(array.shape == expected, f"{name} is {array.shape}, expected {expected}")
        problems.check(array.size > 0, f"{name} is empty")
        problems.check(bool(np.isfinite(array).all()), f"{name} contain NaN or Inf")
    return problems


def check_scores(function: str, scores: Floats, labels: Ints, seen: Ints, unseen: Ints) -> None:
    """Check scores (N, C) and labels (N,), which have every class of the split and no other.

    Raises:
        InputError: lists what is wrong.
    """
    ids = {"labels": ("N", labels), "seen_classes": ("S", seen), "unseen_classes": ("U", unseen)}
    problems = check_arrays(function, scores=("NC", scores), **ids)
    split = np.concatenate([seen, unseen])
    problems.check(len(np.unique(split)) == len(split), "a class is named twice")
    outside = split[(split < 0) | (split >= scores.shape[1])].tolist()
    problems.check(not outside, f"classes {outside} have no column in scores {scores.shape}")
    _check_classes(labels, split, problems)


def _check_classes(labels: Ints, classes: Ints, problems: Problems) -> None:
    """Check that every class has rows, and every row one of the classes, so means are defined."""
    absent, foreign = np.setdiff1d(classes, labels).tolist(), np.setdiff1d(labels, classes).tolist()
    problems.check(not absent, f"classes without test rows: {absent}")
    problems.check(not foreign, f"rows of other classes: {foreign}; leave them out")
    problems.raise_as(InputError)
