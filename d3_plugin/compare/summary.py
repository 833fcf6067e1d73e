"""From finished runs to the rows of a table: means, intervals, paired differences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy import stats

from d3_plugin.compare.execute import Outcome
from d3_plugin.compare.rivals import calibrated_stacking, logit_adjustment, metrics_of
from d3_plugin.evaluation.metrics import GZSLMetrics

ROWS = {
    "baseline": "baseline",
    "baseline_calibrated": "baseline, calibrated stacking",
    "baseline_adjusted": "baseline, logit adjustment",
    "d3_host": "+D³, host's classifier alone",
    "d3": "+D³",
    "d3_calibrated": "+D³, calibrated stacking",
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


def seed_rows(outcomes: Outcomes, adapter: str, seed: int) -> dict[str, GZSLMetrics]:
    """Every row of the table for one seed, from its four runs."""
    rows: dict[str, GZSLMetrics] = {}
    for variant in ("baseline", "d3"):
        validation = outcomes[adapter, seed, "validation", variant]
        test = outcomes[adapter, seed, "test", variant]
        rows[variant] = test.evaluation.metrics
        rows[f"{variant}_calibrated"] = calibrated_stacking(validation, test)
    rows["baseline_adjusted"] = logit_adjustment(
        outcomes[adapter, seed, "validation", "baseline"],
        outcomes[adapter, seed, "test", "baseline"],
    )
    d3 = outcomes[adapter, seed, "test", "d3"]
    if d3.evaluation.host_scores is not None:
        rows["d3_host"] = metrics_of(d3, d3.evaluation.host_scores.astype(np.float64))
    return rows


def summarize(outcomes: Outcomes, adapter: str, seeds: Iterable[int]) -> dict[str, Any]:
    """The table of one adapter.

    Returns:
        Per row ``title``; per metric the ``mean`` and ``half_width`` over seeds, the same of
        the ``difference`` to the baseline of the same seed, and ``per_seed`` values.
    """
    per_seed = [seed_rows(outcomes, adapter, seed) for seed in seeds]
    table: dict[str, Any] = {}
    for key, title in ROWS.items():
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
