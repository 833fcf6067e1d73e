"""Constants of a final classifier, chosen on validation classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt
import torch

from d3_plugin.evaluation.metrics import (
    Ints,
    gzsl_metrics,
    harmonic_means,
    seen_unseen_curve,
)
from d3_plugin.evaluation.protocol import Evaluation, final_scores

WEIGHTS = (0.0, 0.25, 0.5, 0.7, 1.0, 2.0)
"""Of the student, to choose from. 0 is the host's classifier alone."""


class Scored(NamedTuple):
    """A validation problem: (draws, N, C) scores, (N,) labels, seen and unseen classes."""

    scores: npt.NDArray[np.floating]
    labels: Ints
    seen_classes: Ints
    unseen_classes: Ints


class Chosen(TypedDict):
    """Arguments of :meth:`d3_plugin.D3.evaluate`."""

    ensemble_weight: float
    seen_offset: float


def choose_ensemble(validations: Sequence[tuple[Evaluation, Ints, Ints]]) -> Chosen:
    """The student's weight with the highest AUSUC, then the offset with the highest H.

    Both are means over validation problems and their draws. Of equal weights it is the smallest;
    the offset is at least 0 and in units of log S, as in :class:`~d3_plugin.D3Settings`.

    Args:
        validations: evaluations with scores of host and student, with seen and unseen classes.
    """
    combined = {weight: [_combined(*each, weight) for each in validations] for weight in WEIGHTS}
    weight = max(WEIGHTS, key=lambda each: np.mean([_ausuc(problem) for problem in combined[each]]))
    in_units = [
        problem._replace(scores=problem.scores / (math.log(len(problem.seen_classes)) or 1.0))
        for problem in combined[weight]
    ]
    return {"ensemble_weight": weight, "seen_offset": choose_offset(in_units, lowest=0.0)}


def _combined(evaluation: Evaluation, seen: Ints, unseen: Ints, weight: float) -> Scored:
    scores = final_scores(
        list(torch.from_numpy(evaluation.host_scores)),
        torch.from_numpy(evaluation.student_scores),
        torch.from_numpy(seen),
        ensemble_weight=weight,
        seen_offset=0.0,
    )
    return Scored(scores.double().numpy(), evaluation.labels, seen, unseen)


def _ausuc(problem: Scored) -> float:
    return float(np.mean([gzsl_metrics(d, *problem[1:]).ausuc for d in problem.scores]))


def choose_offset(problems: Sequence[Scored], *, lowest: float = -math.inf) -> float:
    """What to subtract from the seen scores for the highest H, a mean over problems and draws.

    Every offset above ``lowest`` at which a prediction changes is tried; of the best ones, it is
    the middle of the widest interval.
    """
    curves = [
        seen_unseen_curve(draw.astype(np.float64), *problem[1:])
        for problem in problems
        for draw in problem.scores
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
    intervals = [(lower[run[0]], candidates[run[-1]]) for run in runs_of_best(harmonic)]
    low, high = max(intervals, key=lambda interval: interval[1] - interval[0])
    return float((low + high) / 2)


def runs_of_best(values: npt.NDArray[np.float64]) -> list[npt.NDArray[np.int64]]:
    """Indices of the highest value, as runs of neighbours."""
    best = np.flatnonzero(values >= values.max() - 1e-12)
    return np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)
