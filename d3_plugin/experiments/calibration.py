"""What is chosen on validation: +D³'s weight and offset, and rivals that need no training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from d3_plugin.evaluation import calibration
from d3_plugin.evaluation.calibration import runs_of_best
from d3_plugin.evaluation.metrics import GZSLMetrics, gzsl_metrics, harmonic_means
from d3_plugin.evaluation.protocol import mean_metrics, rescored
from d3_plugin.experiments.run import Outcome

_STRENGTHS = np.linspace(-2.0, 2.0, 81)


def calibrated_stacking(validations: Sequence[Outcome], test: Outcome) -> GZSLMetrics:
    """Subtract from the seen scores the constant that gave the best H on validation classes.

    Chao, Changpinyo, Gong, Sha, ECCV 2016.
    """
    offset = choose_offset(validations)
    adjusted = test.evaluation.scores.astype(np.float64)
    adjusted[:, :, test.seen_classes] -= offset
    return metrics_of(test, adjusted)


def summed_draws(test: Outcome) -> GZSLMetrics:
    """An ensemble of the classifiers of all draws: the product of their probabilities.

    It shows what lower variance alone gives. Logits can be added without normalising them: a row's
    normaliser is the same for all classes.
    """
    return metrics_of(test, test.evaluation.scores.astype(np.float64).sum(axis=0, keepdims=True))


def choose_offset(validations: Sequence[Outcome]) -> float:
    """The offset with the highest H, averaged over validation problems and draws."""
    return calibration.choose_offset(
        [
            calibration.Scored(
                each.evaluation.scores,
                each.evaluation.labels,
                each.seen_classes,
                each.unseen_classes,
            )
            for each in validations
        ]
    )


def chosen_ensemble(validations: Sequence[Outcome], test: Outcome) -> GZSLMetrics:
    """+D³ with the weight of the student and the offset that are best on validation classes."""
    chosen = calibration.choose_ensemble(
        [(each.evaluation, each.seen_classes, each.unseen_classes) for each in validations]
    )
    seen, unseen = torch.from_numpy(test.seen_classes), torch.from_numpy(test.unseen_classes)
    return rescored(test.evaluation, seen, unseen, **chosen).metrics


def logit_adjustment(validations: Sequence[Outcome], test: Outcome) -> GZSLMetrics:
    """Subtract ``strength`` times the log prior of each class; see :func:`choose_strength`.

    Menon et al., ICLR 2021 (post-hoc form). The prior is each class's share of the rows, real and
    synthetic, that the final classifier was trained on.
    """
    strength = choose_strength(validations)
    return metrics_of(test, _prior_adjusted(test, strength))


def choose_strength(validations: Sequence[Outcome]) -> float:
    """The strength in [-2, 2] with the highest H, averaged over validation problems."""
    harmonic = [
        [_mean_harmonic(each, _prior_adjusted(each, strength)) for strength in _STRENGTHS]
        for each in validations
    ]
    run = max(runs_of_best(np.mean(harmonic, axis=0)), key=len)
    return float(_STRENGTHS[run].mean())


def _prior_adjusted(outcome: Outcome, strength: float) -> npt.NDArray[np.float64]:
    log_prior = np.log(np.asarray(outcome.evaluation.prior))
    adjusted: npt.NDArray[np.float64] = outcome.evaluation.scores - strength * log_prior
    return adjusted


def metrics_of(outcome: Outcome, scores: npt.NDArray[np.float64]) -> GZSLMetrics:
    """Means over the draws of (draws, N, C) scores of the outcome's test rows."""
    classes = outcome.seen_classes, outcome.unseen_classes
    return mean_metrics([gzsl_metrics(s, outcome.evaluation.labels, *classes) for s in scores])


def _mean_harmonic(outcome: Outcome, scores: npt.NDArray[np.float64]) -> float:
    labels = outcome.evaluation.labels
    weight = 1.0 / np.bincount(labels)[labels]  # equal weight to every class
    is_seen = np.isin(labels, outcome.seen_classes)
    correct = scores.argmax(axis=2) == labels
    unseen, seen = (
        np.average(correct[:, rows], axis=1, weights=weight[rows]) for rows in (~is_seen, is_seen)
    )
    return float(harmonic_means(unseen, seen).mean())
