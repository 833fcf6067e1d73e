"""From finished runs to the rows of a table: means, intervals, paired differences."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from d3_plugin.distillation.settings import D3Settings
from d3_plugin.evaluation.calibration import (
    calibrated_stacking,
    chosen_ensemble,
    logit_adjustment,
    rescored,
    summed_draws,
)
from d3_plugin.evaluation.metrics import GZSLMetrics, seen_unseen_curve

if TYPE_CHECKING:
    from d3_plugin.experiments.run import Outcome

ROWS = {
    "baseline": "baseline",
    "baseline_calibrated": "baseline, calibrated stacking",
    "baseline_adjusted": "baseline, logit adjustment",
    "baseline_summed": "baseline, ensemble of its classifiers",
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

Outcomes = dict[tuple[str, int, str, str], "Outcome"]
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


def rows_of(
    titles: Mapping[str, str], variants: Mapping[str, D3Settings | None], draws: int
) -> dict[str, str]:
    """The rows that a table of these variants has, by key with their titles."""
    d3 = variants["d3"] or D3Settings()
    absent = {
        "released": "released" not in variants,
        "baseline_summed": draws == 1,
        "d3_host": d3.final_classifier == "student",
        "d3_chosen": d3.final_classifier != "both",
        "d3_plain": d3.final_classifier == "host" or not d3.seen_offset,
    }
    return {row: title for row, title in titles.items() if not absent.get(row)}


def seed_rows(
    outcomes: Outcomes, adapter: str, seed: int, cuts: Collection[int], rows: Iterable[str]
) -> dict[str, GZSLMetrics]:
    """Rows of the table for one seed, from its test runs and the validation runs of ``cuts``."""
    tests = {key[3]: o for key, o in outcomes.items() if key[:3] == (adapter, seed, "test")}
    baseline, d3 = tests["baseline"].evaluation, tests["d3"].evaluation
    weight = (tests["d3"].run.d3 or D3Settings()).ensemble_weight
    of_baseline, of_d3 = (
        [outcomes[adapter, cut, "validation", variant].evaluation for cut in cuts]
        for variant in ("baseline", "d3")
    )
    derived: dict[str, Callable[[], GZSLMetrics]] = {
        "baseline_calibrated": lambda: calibrated_stacking(of_baseline, baseline),
        "baseline_adjusted": lambda: logit_adjustment(of_baseline, baseline),
        "baseline_summed": lambda: summed_draws(baseline),
        "d3_chosen": lambda: chosen_ensemble(of_d3, d3),
        "d3_host": lambda: d3.metrics_of(np.asarray(d3.host_scores)),
        "d3_plain": lambda: rescored(d3, ensemble_weight=weight, seen_offset=0.0).metrics,
        "d3_calibrated": lambda: calibrated_stacking(of_d3, d3),
    }
    return {
        row: derived[row]() if row in derived else tests[row].evaluation.metrics for row in rows
    }


def summarize(
    outcomes: Outcomes,
    adapter: str,
    chosen_on: Mapping[int, Collection[int]],
    titles: Mapping[str, str],
) -> dict[str, Any]:
    """The table of one adapter.

    Args:
        outcomes: the runs.
        adapter: name of the host family.
        chosen_on: for each seed the seeds of the validation runs that offsets are chosen on.
        titles: of its rows, in order; see :func:`rows_of`.

    Returns:
        Per row ``title``; per metric the ``mean`` and ``half_width`` over seeds, the same of
        the ``difference`` to the baseline of the same seed, and ``per_seed`` values.
    """
    per_seed = [
        {row: asdict(m) for row, m in seed_rows(outcomes, adapter, seed, cuts, titles).items()}
        for seed, cuts in chosen_on.items()
    ]
    table: dict[str, Any] = {}
    for key, title in titles.items():
        metrics: dict[str, Any] = {}
        for metric in per_seed[0][key]:
            numbers = [rows[key][metric] for rows in per_seed]
            gains = [rows[key][metric] - rows["baseline"][metric] for rows in per_seed]
            metrics[metric] = {**interval(numbers), "difference": interval(gains)}
            metrics[metric]["per_seed"] = numbers
        table[key] = {"title": title, "metrics": metrics}
    return table


def mean_curve(outcome: Outcome) -> npt.NDArray[np.float64]:
    """U of the seen-unseen curve at :data:`CURVE_SEEN`, mean over draws."""
    e, curves = outcome.evaluation, []
    for draw in e.scores.astype(np.float64):
        _, u, s = seen_unseen_curve(draw, e.labels, e.seen_classes, e.unseen_classes)
        curves.append(np.interp(CURVE_SEEN, s, u, right=0.0))
    return np.asarray(np.mean(curves, axis=0))


def paired(summary: dict[str, Any], row: str, other: str, metric: str) -> dict[str, float | None]:
    """Mean and interval of ``row`` minus ``other``, seed by seed, in :func:`summarize`'s table."""
    of_row, of_other = (summary[key]["metrics"][metric]["per_seed"] for key in (row, other))
    return interval(a - b for a, b in zip(of_row, of_other, strict=True))
