"""What a comparison comes to: a sentence for readers, and ``--fail-if`` conditions for CI."""

from __future__ import annotations

import operator
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from d3_plugin.checks import did_you_mean
from d3_plugin.errors import InputError, Problems
from d3_plugin.report.statistics import paired
from d3_plugin.report.tables import COLUMNS, cell

SYNTAX = "[ADAPTER:][ROW.]NAME[.low|.high] (< <= > >=) NUMBER"
_OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}

Statistic = dict[str, float | None]


def verdict(adapter: str, summary: dict[str, Any]) -> str:
    """What +D³ changes, in one sentence; a gain or a loss only where the interval excludes 0.

    Of the row whose weight and offset are chosen like the rivals' constants, if there is one.
    """
    row = headline(summary)
    name = "+D³, its weight and offset chosen," if row == "d3_chosen" else "+D³"
    metrics = summary[row]["metrics"]
    ausuc, harmonic = (metrics[name]["difference"] for name in ("ausuc", "harmonic"))
    seeds = len(metrics["ausuc"]["per_seed"])
    shown, of_h = cell(ausuc, signed=True), cell(harmonic, signed=True)
    if seeds < 2:
        said = f"no verdict from a single seed, AUSUC {shown}, H {of_h}"
        return f"{adapter}: {said}{_rival(summary, row)}"
    sign, of_seeds = _sign(ausuc), f"over {seeds} seeds"
    if sign == 0:
        said = f"no significant gain in AUSUC, {shown} {of_seeds}"
    else:
        said = f"{name} {'gains' if sign > 0 else 'loses'} AUSUC {shown} {of_seeds}"
    doubt = "" if _sign(harmonic) else ", not significant"
    return f"{adapter}: {said}; H {of_h}{doubt}{_rival(summary, row)}"


def headline(summary: Mapping[str, Any]) -> str:
    """Key of the row that +D³ is judged by."""
    return "d3_chosen" if "d3_chosen" in summary else "d3"


def _rival(summary: dict[str, Any], d3: str) -> str:
    """What the cheap rival gains without D³: a constant, or in an ablation L_cls alone."""
    for row, metric, what in (
        ("baseline_calibrated", "harmonic", "calibrated stacking alone gives"),
        ("cls", "ausuc", "L_cls alone gives AUSUC"),
    ):
        if row in summary:
            of_row, of_d3 = (summary[r]["metrics"][metric]["difference"] for r in (row, d3))
            part = ", of which " if 0 < of_row["mean"] <= of_d3["mean"] and row != "cls" else "; "
            return f"{part}{what} {cell({**of_row, 'half_width': None}, signed=True)}"
    return ""


def _sign(statistic: Statistic) -> int:
    """1 or -1 if the interval lies above or below 0, else 0."""
    low, high = bounds(statistic)
    return (low > 0) - (high < 0)


def bounds(statistic: Statistic) -> tuple[float, float]:
    """Ends of an interval."""
    mean, half_width = statistic["mean"] or 0.0, statistic["half_width"] or 0.0
    return mean - half_width, mean + half_width


@dataclass(frozen=True)
class Condition:
    """A figure of the summary and a bound it must not be on the wrong side of.

    Attributes:
        adapters: names of the host families it is about.
        row: of the table.
        metric: as in ``results.json``.
        beside: the row that is subtracted, seed by seed; None for the metric itself.
        bound: "" for the mean, or ``low`` or ``high`` end of the 95 % interval.
        sign, number: it holds where the figure is ``sign`` ``number``.
        text: as the user wrote it, without adapter.
    """

    adapters: tuple[str, ...]
    row: str
    metric: str
    beside: str | None
    bound: str
    sign: str
    number: float
    text: str


def read_conditions(
    given: Iterable[str], adapters: Collection[str], rows: Collection[str], seeds: int
) -> list[Condition]:
    """The conditions of ``--fail-if``, written as :data:`SYNTAX`.

    Args:
        given: such as ``d_ausuc < 0`` or ``fclswgan:d3.d_harmonic_to_baseline_calibrated <= 0``.
        adapters: host families that are compared.
        rows: that the table has with these settings.
        seeds: how many; with one there is no interval.

    Raises:
        InputError: lists every condition that cannot be understood, and why.
    """
    problems = Problems("--fail-if")
    conditions = []
    for text in given:
        match = re.fullmatch(r"\s*(\S+?)\s*([<>]=?)\s*([-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)\s*", text)
        if match is None:
            problems.add(f"{text!r} is not a condition: {SYNTAX}")
            continue
        figure, sign, number = match.groups()
        adapter, _, figure = figure.rpartition(":")
        parts = figure.split(".")
        bound = parts.pop() if parts[-1] in ("low", "high") else ""
        name, row = parts[-1], ".".join(parts[:-1]) or "d3"
        metric, _, beside = name.removeprefix("d_").partition("_to_")
        differs = name.startswith("d_")
        for word, known, kind in (
            (adapter, ["", *adapters], "adapter"),
            (row, rows, "row"),
            (metric, COLUMNS, "metric"),
            (beside, ["", *rows] if differs else [""], "row"),
        ):
            problems.check(
                word in known, f"{text!r}: no {kind} {word!r} here{did_you_mean(word, [*known])}"
            )
        problems.check(not bound or seeds > 1, f"{text!r}: one seed has no interval")
        of = (adapter,) if adapter else tuple(adapters)
        against = (beside or "baseline") if differs else None
        shown = f"{figure} {sign} {number}"
        conditions.append(Condition(of, row, metric, against, bound, sign, float(number), shown))
    problems.raise_as(InputError)
    return conditions


def failures(conditions: Sequence[Condition], summaries: Mapping[str, Any]) -> list[str]:
    """One line for each adapter that a condition holds for: the condition and the figure."""
    lines = []
    for condition in conditions:
        for adapter in condition.adapters:
            summary = summaries[adapter]
            figure = summary[condition.row]["metrics"][condition.metric]
            if condition.beside is not None:
                figure = paired(summary, condition.row, condition.beside, condition.metric)
            low, high = bounds(figure)
            value = {"low": low, "high": high}.get(condition.bound, figure["mean"])
            if _OPERATORS[condition.sign](value, condition.number):
                mean = f"mean {figure['mean']:.4g}, " if condition.bound else ""
                interval = f" ({mean}95 % interval {low:.4g} to {high:.4g})"
                known = interval if figure["half_width"] is not None else ""
                lines.append(f"{adapter} {condition.text}: it is {value:.4g}{known}")
    return lines
