"""From finished runs to the rows of a table: means, intervals, paired differences."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from d3_plugin.evaluation.metrics import GZSLMetrics, seen_unseen_curve
from d3_plugin.experiments.calibration import (
    calibrated_stacking,
    chosen_ensemble,
    logit_adjustment,
    metrics_of,
    summed_draws,
)
from d3_plugin.experiments.run import Outcome

ROWS = {
    "baseline": "baseline",
    "baseline_calibrated": "baseline, calibrated stacking",
    "baseline_adjusted": "baseline, logit adjustment",
    "baseline_summed": "baseline, its draws summed",
    "d3_chosen": "+D³, weight and offset chosen",
    "d3_host": "+D³, host's classifier alone",
    "d3_plain": "+D³ without its offset",
    "d3": "+D³, fixed weight and offset",
    "d3_calibrated": "+D³, calibrated stacking",
    "released": "+D³, released formulas",
}
"""Key and title of every row of the table. What is chosen is chosen on validation classes."""

CURVE_SEEN = np.linspace(0, 1, 51)
"""Values of S at which ``results.json`` has U of the seen-unseen curve."""

Outcomes = dict[tuple[str, int, str, str], Outcome]
"""By adapter, seed, split and variant."""


def interval(values: Iterable[float]) -> dict[str, float | None]:
    """Mean and 95 % Student-t interval over seeds.

    Returns:
        ``mean`` and ``half_width``; the latter is None for a single value, which has no interval.
    """
    from scipy import stats

    numbers = np.array(list(values), dtype=np.float64)
    if len(numbers) < 2:
        return {"mean": float(numbers.mean()), "half_width": None}
    half_width = stats.t.ppf(0.975, len(numbers) - 1) * stats.sem(numbers)
    return {"mean": float(numbers.mean()), "half_width": float(half_width)}


def seed_rows(
    outcomes: Outcomes, adapter: str, seed: int, cuts: Collection[int]
) -> dict[str, GZSLMetrics]:
    """Every row of the table for one seed, from its test runs and the validation runs of ``cuts``.

    Without cuts there are no rows whose offset or strength is chosen.
    """
    tests = {key[3]: o for key, o in outcomes.items() if key[:3] == (adapter, seed, "test")}
    rows = {variant: outcome.evaluation.metrics for variant, outcome in tests.items()}
    rows |= host_row(tests["d3"]) | plain_row(tests["d3"])
    if not cuts:
        return rows
    validations = {
        variant: [outcomes[adapter, cut, "validation", variant] for cut in cuts]
        for variant in ("baseline", "d3")
    }
    for variant, chosen_on in validations.items():
        rows[f"{variant}_calibrated"] = calibrated_stacking(chosen_on, tests[variant])
    baseline, d3 = tests["baseline"], tests["d3"]
    if d3.evaluation.host_scores is not None and d3.evaluation.student_scores is not None:
        rows["d3_chosen"] = chosen_ensemble(validations["d3"], d3)
    rows["baseline_adjusted"] = logit_adjustment(validations["baseline"], baseline)
    if len(baseline.evaluation.scores) > 1:
        rows["baseline_summed"] = summed_draws(baseline)
    return rows


def host_row(d3: Outcome) -> dict[str, GZSLMetrics]:
    """``d3_host``: the host's classifier alone; nothing where only the student classifies."""
    scores = d3.evaluation.host_scores
    return {} if scores is None else {"d3_host": metrics_of(d3, scores.astype(np.float64))}


def plain_row(d3: Outcome) -> dict[str, GZSLMetrics]:
    """``d3_plain``: +D³ without its ``seen_offset``; nothing where it has none."""
    settings = d3.run.d3
    if settings is None or not settings.seen_offset or settings.final_classifier == "host":
        return {}
    scores = d3.evaluation.scores.astype(np.float64)
    scores[:, :, d3.seen_classes] += settings.seen_offset * np.log(len(d3.seen_classes))
    return {"d3_plain": metrics_of(d3, scores)}


def summarize(
    outcomes: Outcomes,
    adapter: str,
    chosen_on: Mapping[int, Collection[int]],
    titles: Mapping[str, str] = ROWS,
) -> dict[str, Any]:
    """The table of one adapter.

    Args:
        outcomes: the runs.
        adapter: name of the host family.
        chosen_on: for each seed the seeds of the validation runs that offsets are chosen on.
        titles: of the rows, in order; rows that were not made are left out.

    Returns:
        Per row ``title``; per metric the ``mean`` and ``half_width`` over seeds, the same of
        the ``difference`` to the baseline of the same seed, and ``per_seed`` values.
    """
    per_seed = [
        {row: asdict(m) for row, m in seed_rows(outcomes, adapter, seed, cuts).items()}
        for seed, cuts in chosen_on.items()
    ]
    table: dict[str, Any] = {}
    for key, title in titles.items():
        if key not in per_seed[0]:
            continue
        metrics = {}
        for metric in per_seed[0][key]:
            numbers = [rows[key][metric] for rows in per_seed]
            differences = [rows[key][metric] - rows["baseline"][metric] for rows in per_seed]
            metrics[metric] = {
                **interval(numbers),
                "difference": interval(differences),
                "per_seed": numbers,
            }
        table[key] = {"title": title, "metrics": metrics}
    return table


def mean_curve(outcome: Outcome) -> npt.NDArray[np.float64]:
    """U of the seen-unseen curve at :data:`CURVE_SEEN`, mean over draws."""
    curves = []
    for draw in outcome.evaluation.scores.astype(np.float64):
        _, u, s = seen_unseen_curve(
            draw, outcome.evaluation.labels, outcome.seen_classes, outcome.unseen_classes
        )
        curves.append(np.interp(CURVE_SEEN, s, u, right=0.0))
    mean: npt.NDArray[np.float64] = np.mean(curves, axis=0)
    return mean


def paired(summary: dict[str, Any], row: str, other: str, metric: str) -> dict[str, float | None]:
    """Mean and interval of ``row`` minus ``other``, seed by seed, in :func:`summarize`'s table."""
    of_row, of_other = (summary[key]["metrics"][metric]["per_seed"] for key in (row, other))
    return interval(a - b for a, b in zip(of_row, of_other, strict=True))
