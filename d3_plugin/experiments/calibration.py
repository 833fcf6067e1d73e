"""What is chosen on validation: +D³'s weight and offset, and rivals that need no training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from d3_plugin.evaluation.calibration import (
    choose_ensemble,
    choose_offset,
    rescored,
    runs_of_best,
)
from d3_plugin.evaluation.metrics import GZSLMetrics, harmonic_means
from d3_plugin.evaluation.result import Evaluation

_STRENGTHS = np.linspace(-2.0, 2.0, 81)


def calibrated_stacking(validations: Sequence[Evaluation], test: Evaluation) -> GZSLMetrics:
    """Subtract from the seen scores the constant that gave the best H on validation classes.

    Chao, Changpinyo, Gong, Sha, ECCV 2016.
    """
    offset = choose_offset(validations)
    adjusted = test.scores.astype(np.float64)
    adjusted[:, :, test.seen_classes] -= offset
    return test.metrics_of(adjusted)


def summed_draws(test: Evaluation) -> GZSLMetrics:
    """An ensemble of the classifiers of all draws: the product of their probabilities.

    It shows what lower variance alone gives. Logits can be added without normalising them: a row's
    normaliser is the same for all classes.
    """
    return test.metrics_of(test.scores.sum(axis=0, keepdims=True, dtype=np.float64))


def chosen_ensemble(validations: Sequence[Evaluation], test: Evaluation) -> GZSLMetrics:
    """+D³ with the weight of the student and the offset that are best on validation classes."""
    return rescored(test, **choose_ensemble(validations)).metrics


def logit_adjustment(validations: Sequence[Evaluation], test: Evaluation) -> GZSLMetrics:
    """Subtract ``strength`` times the log prior of each class; see :func:`choose_strength`.

    Menon et al., ICLR 2021 (post-hoc form). The prior is each class's share of the rows, real and
    synthetic, that the final classifier was trained on.
    """
    return test.metrics_of(_prior_adjusted(test, choose_strength(validations)))


def choose_strength(validations: Sequence[Evaluation]) -> float:
    """The strength in [-2, 2] with the highest H, averaged over validation problems."""
    harmonic = [
        [_mean_harmonic(each, _prior_adjusted(each, strength)) for strength in _STRENGTHS]
        for each in validations
    ]
    run = max(runs_of_best(np.mean(harmonic, axis=0)), key=len)
    return float(_STRENGTHS[run].mean())


def _prior_adjusted(evaluation: Evaluation, strength: float) -> npt.NDArray[np.float64]:
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
