"""From finished runs to the summary of a table: means, intervals, paired differences."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from d3_plugin.distillation.settings import D3Settings
from d3_plugin.evaluation.metrics import Ints, gzsl_metrics, seen_unseen_curve
from d3_plugin.report.rows import FinishedRun, Row

CURVE_SEEN = np.linspace(0, 1, 51)
"""Values of S at which ``results.json`` has U of the seen-unseen curve."""

Statistic = dict[str, float | None]
Summary = dict[str, Any]
"""The rows of one adapter's table by key, as in ``results.json``."""


@dataclass(frozen=True, eq=False)
class Scored:
    """A row of the table for one seed.

    Attributes:
        run: the test run.
        metrics: of each draw.
        curve: (51,) U at :data:`CURVE_SEEN`, mean over draws.
        predicted: (draws, N) class ids.
    """

    run: FinishedRun
    metrics: list[dict[str, float]]
    curve: npt.NDArray[np.float64]
    predicted: Ints


def score(runs: Iterable[FinishedRun], row: Row, seed: int, cuts: Collection[int]) -> Scored:
    """Score a row for one seed.

    Args:
        runs: of one adapter.
        row: which.
        seed: of the test run.
        cuts: seeds of the validation runs on which a tuned row chooses.
    """
    of_variant = {(r.split, r.seed): r for r in runs if r.variant == row.variant}
    run = of_variant["test", seed]
    validations = [of_variant["validation", cut].evaluation for cut in cuts if row.tuned]
    test = run.evaluation
    scores = row.scores(test, validations, run.d3 or D3Settings())
    classes = test.labels, test.seen_classes, test.unseen_classes
    metrics, curves = [], []
    for draw in scores.astype(np.float64):
        metrics.append(asdict(gzsl_metrics(draw, *classes)))
        _, unseen, seen = seen_unseen_curve(draw, *classes)
        curves.append(np.interp(CURVE_SEEN, seen, unseen, right=0.0))
    return Scored(run, metrics, np.mean(curves, axis=0), scores.argmax(axis=2))


def summarize(scored: Mapping[str, Sequence[Scored]], rows: Iterable[Row]) -> Summary:
    """The table of one adapter.

    Args:
        scored: each row's scores, seed by seed, by its key.
        rows: in the order of the table.

    Returns:
        Per row ``title``, the ``curves`` of its seeds, and ``metrics``: per metric ``mean`` and
        ``half_width`` over seeds, the same of the ``difference`` to the baseline of the same
        seed, and the values ``per_seed`` and, within each seed, ``per_draw``. Of a row with
        something added to +D³ also the key of the row ``beside`` it.
    """
    summary: Summary = {}
    for row in rows:
        of_row, metrics = scored[row.key], {}
        for metric in of_row[0].metrics[0]:
            values, of_baseline = _per_seed(of_row, metric), _per_seed(scored["baseline"], metric)
            metrics[metric] = {
                **interval(values),
                "difference": interval(np.subtract(values, of_baseline)),
                "per_seed": values,
                "per_draw": [[draw[metric] for draw in each.metrics] for each in of_row],
            }
        curves = [each.curve.round(4).tolist() for each in of_row]
        summary[row.key] = {"title": row.title, "metrics": metrics, "curves": curves}
        summary[row.key] |= {"beside": row.beside} if row.beside else {}
    return summary


def _per_seed(scored: Sequence[Scored], metric: str) -> list[float]:
    """Means over draws."""
    return [float(np.mean([draw[metric] for draw in each.metrics])) for each in scored]


def interval(values: Iterable[float]) -> Statistic:
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


def differences(summary: Summary, row: str, other: str, metric: str) -> npt.NDArray[np.float64]:
    """``row`` minus ``other``, seed by seed."""
    of_row, of_other = (summary[key]["metrics"][metric]["per_seed"] for key in (row, other))
    return np.asarray(np.subtract(of_row, of_other))


def paired(summary: Summary, row: str, other: str, metric: str) -> Statistic:
    """Mean and interval of ``row`` minus ``other``, seed by seed."""
    return interval(differences(summary, row, other, metric))
