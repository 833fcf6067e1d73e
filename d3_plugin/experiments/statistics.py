"""From finished runs to the rows of a table: means, intervals, paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy import stats

from d3_plugin.evaluation.metrics import GZSLMetrics
from d3_plugin.experiments.calibration import (
    calibrated_stacking,
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
    "d3_host": "+D³, host's classifier alone",
    "d3_plain": "+D³ without its offset",
    "d3": "+D³",
    "d3_calibrated": "+D³, calibrated stacking",
    "released": "+D³, released formulas",
}
"""Key and title of every row of the table. Offsets and strengths are chosen on validation."""

Outcomes = dict[tuple[str, int, str, str], Outcome]
"""By adapter, seed, split and variant."""


def interval(values: Iterable[float]) -> dict[str, float | None]:
    """Mean and 95 % Student-t interval over seeds.

    Returns:
        ``mean`` and ``half_width``; the latter is None for a single value, which has no interval.
    """
    numbers = np.array(list(values), dtype=np.float64)
    if len(numbers) < 2:
        return {"mean": float(numbers.mean()), "half_width": None}
    half_width = stats.t.ppf(0.975, len(numbers) - 1) * stats.sem(numbers)
    return {"mean": float(numbers.mean()), "half_width": float(half_width)}


def seed_rows(
    outcomes: Outcomes, adapter: str, seed: int, cuts: Iterable[int]
) -> dict[str, GZSLMetrics]:
    """Every row of the table for one seed, from its runs and the validation runs of ``cuts``."""
    rows: dict[str, GZSLMetrics] = {}
    cuts = list(cuts)
    for variant in ("baseline", "d3"):
        validations = [outcomes[adapter, cut, "validation", variant] for cut in cuts]
        test = outcomes[adapter, seed, "test", variant]
        rows[variant] = test.evaluation.metrics
        rows[f"{variant}_calibrated"] = calibrated_stacking(validations, test)
        if variant == "baseline":
            rows["baseline_adjusted"] = logit_adjustment(validations, test)
            if len(test.evaluation.scores) > 1:
                rows["baseline_summed"] = summed_draws(test)
    rows |= host_row(outcomes[adapter, seed, "test", "d3"])
    rows |= plain_row(outcomes[adapter, seed, "test", "d3"])
    released = outcomes.get((adapter, seed, "test", "released"))
    if released is not None:
        rows["released"] = released.evaluation.metrics
    return rows


def host_row(d3: Outcome) -> dict[str, GZSLMetrics]:
    """``d3_host``: the host's classifier alone; nothing where only the student was trained."""
    scores = d3.evaluation.host_scores
    return {} if scores is None else {"d3_host": metrics_of(d3, scores.astype(np.float64))}


def plain_row(d3: Outcome) -> dict[str, GZSLMetrics]:
    """``d3_plain``: as without ``seen_offset``; nothing where there is none to take back."""
    settings = d3.run.d3
    if settings is None or not settings.seen_offset or settings.final_classifier == "host":
        return {}
    scores = d3.evaluation.scores.astype(np.float64)
    scores[:, :, d3.seen_classes] += settings.seen_offset * np.log(len(d3.seen_classes))
    return {"d3_plain": metrics_of(d3, scores)}


def summarize(
    outcomes: Outcomes, adapter: str, cuts: Mapping[int, Iterable[int]]
) -> dict[str, Any]:
    """The table of one adapter.

    Args:
        outcomes: the runs.
        adapter: whose.
        cuts: for each seed the seeds of the validation runs that its offsets are chosen on.

    Returns:
        Per row ``title``; per metric the ``mean`` and ``half_width`` over seeds, the same of
        the ``difference`` to the baseline of the same seed, and ``per_seed`` values.
    """
    rows = [seed_rows(outcomes, adapter, seed, chosen_on) for seed, chosen_on in cuts.items()]
    return tabulate(rows, ROWS)


def tabulate(per_seed: list[dict[str, GZSLMetrics]], titles: Mapping[str, str]) -> dict[str, Any]:
    """As :func:`summarize`, from the rows of each seed; ``baseline`` must be one of them.

    Args:
        per_seed: metrics by row, for each seed.
        titles: of the rows, in order; rows that were not made are left out.
    """
    table: dict[str, Any] = {}
    for key, title in titles.items():
        if key not in per_seed[0]:  # final_classifier="student" trains no host classifier
            continue
        values = [asdict(rows[key]) for rows in per_seed]
        base = [asdict(rows["baseline"]) for rows in per_seed]
        metrics = {}
        for metric in values[0]:
            numbers = [v[metric] for v in values]
            differences = [v[metric] - b[metric] for v, b in zip(values, base, strict=True)]
            metrics[metric] = {
                **interval(numbers),
                "difference": interval(differences),
                "per_seed": numbers,
            }
        table[key] = {"title": title, "metrics": metrics}
    return table
