"""How the rows of a comparison are scored, and what they choose on validation classes.

Calibrated stacking, logit adjustment and an ensemble of draws are the cheap rivals of D³, whose own
weight and offset can be chosen in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch

from d3_plugin.distillation.settings import D3Settings
from d3_plugin.evaluation.final_classifier import final_scores
from d3_plugin.evaluation.metrics import harmonic_means, seen_unseen_curve
from d3_plugin.evaluation.result import Evaluation

WEIGHTS = (0.0, 0.25, 0.5, 0.7, 1.0, 2.0)
"""Of the student, to choose from. 0 is the host's classifier alone."""

_STRENGTHS = np.linspace(-2.0, 2.0, 81)


Scores = npt.NDArray[np.floating]
MakeScores = Callable[[Evaluation, Sequence[Evaluation], D3Settings], Scores]
"""The (draws, N, C) scores of a row.

From a test evaluation, the evaluations to choose on, and the settings of D³.
"""


def as_scored(test: Evaluation, validations: Sequence[Evaluation], d3: D3Settings) -> Scores:
    return test.scores


def calibrated_stacking(
    test: Evaluation, validations: Sequence[Evaluation], d3: D3Settings
) -> Scores:
    """Chao, Changpinyo, Gong, Sha, ECCV 2016: a constant less for every seen class."""
    scores = test.scores.astype(np.float64)
    scores[:, :, test.seen_classes] -= choose_offset(validations)
    return scores


def logit_adjustment(test: Evaluation, validations: Sequence[Evaluation], d3: D3Settings) -> Scores:
    """Menon et al., ICLR 2021, post hoc: less for classes with many training rows."""
    return prior_adjusted(test, choose_strength(validations))


def summed_draws(test: Evaluation, validations: Sequence[Evaluation], d3: D3Settings) -> Scores:
    """One ensemble of the classifiers of all draws: what lower variance alone gives.

    Logits can be added without normalising them: a row's normaliser is the same for all classes.
    """
    summed: Scores = test.scores.sum(axis=0, keepdims=True, dtype=np.float64)
    return summed


def tuned_ensemble(test: Evaluation, validations: Sequence[Evaluation], d3: D3Settings) -> Scores:
    return rescored(test, **choose_ensemble(validations)).scores


def host_classifier(test: Evaluation, validations: Sequence[Evaluation], d3: D3Settings) -> Scores:
    return np.asarray(test.host_scores)


def without_offset(test: Evaluation, validations: Sequence[Evaluation], d3: D3Settings) -> Scores:
    return rescored(test, ensemble_weight=d3.ensemble_weight, seen_offset=0.0).scores


class Chosen(TypedDict):
    """Arguments of :meth:`d3_plugin.D3.evaluate`."""

    ensemble_weight: float
    seen_offset: float


def choose_ensemble(validations: Sequence[Evaluation]) -> Chosen:
    """The student's weight with the highest AUSUC, then the offset with the highest H.

    Both are means over validation problems and their draws. Of equal weights it is the smallest;
    the offset is at least 0 and in units of log S, as in :class:`~d3_plugin.D3Settings`.

    Args:
        validations: evaluations with scores of host and student.
    """
    combined = {
        weight: [rescored(each, ensemble_weight=weight, seen_offset=0.0) for each in validations]
        for weight in WEIGHTS
    }
    weight = max(WEIGHTS, key=lambda weight: np.mean([e.metrics.ausuc for e in combined[weight]]))
    in_units = [
        replace(e, scores=e.scores.astype(np.float64) / (math.log(len(e.seen_classes)) or 1.0))
        for e in combined[weight]
    ]
    return {"ensemble_weight": weight, "seen_offset": choose_offset(in_units, lowest=0.0)}


def rescored(evaluation: Evaluation, *, ensemble_weight: float, seen_offset: float) -> Evaluation:
    """Combines the same host and student with another weight and offset, without training.

    Args:
        evaluation: an evaluation of the student, or of both.
        ensemble_weight, seen_offset: see :class:`~d3_plugin.D3Settings`.
    """
    host, student = evaluation.host_scores, evaluation.student_scores
    combined = final_scores(
        None if host is None else torch.from_numpy(host),
        torch.from_numpy(student),
        torch.from_numpy(evaluation.seen_classes),
        ensemble_weight=ensemble_weight,
        seen_offset=seen_offset,
    )
    scores = combined.view(-1, *combined.shape[-2:]).numpy()  # (draws, N, C)
    return replace(evaluation, scores=scores, metrics=evaluation.metrics_of(scores))


def choose_offset(validations: Sequence[Evaluation], *, lowest: float = -math.inf) -> float:
    """The constant of calibrated stacking: subtracted from seen scores, it gives the highest H.

    Every offset above ``lowest`` at which a prediction changes is tried; of the best ones, it is
    the middle of the widest interval.
    """
    curves = [
        seen_unseen_curve(draw, each.labels, each.seen_classes, each.unseen_classes)
        for each in validations
        for draw in each.scores.astype(np.float64)
    ]
    candidates = np.unique(np.concatenate([offsets[1:] for offsets, _, _ in curves]))
    candidates = candidates[candidates > lowest]
    if not len(candidates):
        return lowest
    harmonic = np.zeros(len(candidates))
    for offsets, unseen, seen in curves:
        # Offsets descend; a candidate takes the values of the smallest one not below it.
        at = np.searchsorted(-offsets, -candidates, side="right") - 1
        harmonic += harmonic_means(unseen[at], seen[at])
    # A candidate's value holds down to the next lower one; the last has no lower end, or `lowest`.
    end = candidates[0] if lowest == -math.inf else lowest
    lower = np.append(end, candidates[:-1])
    intervals = [(lower[run[0]], candidates[run[-1]]) for run in _runs_of_best(harmonic)]
    low, high = max(intervals, key=lambda interval: interval[1] - interval[0])
    return float((low + high) / 2)


def _runs_of_best(values: npt.NDArray[np.float64]) -> list[npt.NDArray[np.int64]]:
    """Indices of the highest value, as runs of neighbours."""
    best = np.flatnonzero(values >= values.max() - 1e-12)
    return np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)


def choose_strength(validations: Sequence[Evaluation]) -> float:
    """Of :func:`prior_adjusted`: in [-2, 2], with the highest mean H of the validation problems."""
    harmonic = [
        [_mean_harmonic(each, prior_adjusted(each, strength)) for strength in _STRENGTHS]
        for each in validations
    ]
    run = max(_runs_of_best(np.mean(harmonic, axis=0)), key=len)
    return float(_STRENGTHS[run].mean())


def prior_adjusted(evaluation: Evaluation, strength: float) -> npt.NDArray[np.float64]:
    """Scores minus ``strength`` times the log prior of each class (Menon et al., ICLR 2021).

    The prior is each class's share of the rows, real and synthetic, that the final classifier was
    trained on.
    """
    log_prior = np.log(np.asarray(evaluation.prior))
    adjusted: npt.NDArray[np.float64] = evaluation.scores - strength * log_prior
    return adjusted


def _mean_harmonic(evaluation: Evaluation, scores: npt.NDArray[np.float64]) -> float:
    labels = evaluation.labels
    weight = 1.0 / np.bincount(labels)[labels]  # equal weight to every class
    is_seen = np.isin(labels, evaluation.seen_classes)
    correct = scores.argmax(axis=2) == labels
    unseen, seen = (
        np.average(correct[:, rows], axis=1, weights=weight[rows]) for rows in (~is_seen, is_seen)
    )
    return float(harmonic_means(unseen, seen).mean())
