"""Made-up finished runs, and the results of a comparison of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import log_softmax

from d3_plugin import D3Settings
from d3_plugin.evaluation.calibration import rescored
from d3_plugin.evaluation.result import Evaluation, mean_metrics
from d3_plugin.report.results import results
from d3_plugin.report.rows import COMPARISON, FinishedRun, Record, rows_of

SEEN, UNSEEN = np.array([0, 2, 3]), np.array([1, 4])
LABELS = np.repeat(np.arange(5), [30, 20, 10, 30, 25])
NAMES = ("cat", "<dog> & co", "50% $off_", "Ätna", "fox")
D3 = D3Settings()
VARIANTS: Mapping[str, D3Settings | None] = {"baseline": None, "d3": D3}
SETTINGS: Mapping[str, Any] = {
    "adapters": ["a"],
    "data": "50%_of & <b>birds</b>",
    "seeds": 2,
    "draws": 2,
    "cuts": 1,
    "device": "cpu",
    "threads": 1,
    "machine": "x86_64",
    "hosts": {"a": {"steps": 7}},
    "d3": {"weight": 0.0},
}


def noisy(seed: int, bias: float, draws: int) -> np.ndarray:
    """Scores (draws, N, 5) with ``bias`` on the seen classes."""
    scores = np.random.default_rng(seed).normal(size=(draws, len(LABELS), 5))
    scores[:, np.arange(len(LABELS)), LABELS] += 1.5
    scores[:, :, SEEN] += bias
    return log_softmax(scores, axis=2).astype(np.float32)


def finished(
    seed: int,
    variant: str = "baseline",
    *,
    split: str = "test",
    bias: float = 1.0,
    student_bias: float | None = None,
    draws: int = 2,
) -> FinishedRun:
    """A run of host ``a``; with a student, its scores are the ensemble's with D³'s defaults."""
    number = 10 * seed + (split == "test")
    scores = noisy(number, bias, draws)
    metrics = mean_metrics(scores, LABELS, SEEN, UNSEEN)
    prior = np.array([0.1, 0.3, 0.1, 0.2, 0.3])
    made = Evaluation(metrics, scores, LABELS, SEEN, UNSEEN, host_scores=scores, prior=prior)
    if student_bias is not None:
        student = noisy(number + 1000, student_bias, 1)[0]
        score = np.linspace(0, 1, len(LABELS))
        made = replace(made, student_scores=student, teacher_score=score, teacher_auroc=0.7)
        made = rescored(made, ensemble_weight=D3.ensemble_weight, seen_offset=D3.seen_offset)
    record = Record(
        data_name="d",
        class_names=list(NAMES),
        history=[{"step": 1, "critic": float("inf")}, {"step": 2, "critic": 0.5}],
        d3_history=[] if student_bias is None else [{"step": 1, "cls": float("nan"), "total": 2.0}],
        generator_start=0.0,
        generator_mean=0.0,
        projection={
            "classes": [1, 4, 0, 2, 3],
            "real": [[[0.0, 1.0]]] * 5,
            "synthetic": [[[0.0, 1.0], [float("nan"), 2.0]]] * 5,
        },
        seconds=0.0,
        finished="2026-01-02T03:04:05Z",
    )
    d3 = None if student_bias is None else D3
    return FinishedRun("a", seed, split, variant, made, record, d3)


def runs(seeds: int = 2) -> list[FinishedRun]:
    """Baseline and +D³ on both splits."""
    return [
        finished(seed, variant, split=split, student_bias=bias)
        for seed in range(seeds)
        for split in ("validation", "test")
        for variant, bias in (("baseline", None), ("d3", 3.0))
    ]


def content(seeds: int = 2, made: list[FinishedRun] | None = None, **settings: Any) -> Any:
    """``results.json`` of :func:`runs`, or of others."""
    return results(
        {**SETTINGS, "seeds": seeds, **settings},
        runs(seeds) if made is None else made,
        rows_of(COMPARISON, VARIANTS, draws=2),
        {seed: [seed] for seed in range(seeds)},
        command="d3 compare --data d",
        digests={"data": "ab12", "code": "cd34"},
    )
