"""What a comparison comes to: a sentence for readers, and ``--fail-if`` conditions for CI."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from d3_plugin.checks import did_you_mean
from d3_plugin.errors import InputError, Problems
from d3_plugin.report.rows import headline
from d3_plugin.report.statistics import Statistic, Summary, paired
from d3_plugin.report.tables import METRICS, cell

SYNTAX = "[ADAPTER:][ROW.]NAME[.low|.high] (< <= > >=) NUMBER"
_OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def verdict(adapter: str, summary: Summary) -> str:
    """What the headline changes, in one sentence; significant where the interval excludes 0."""
    row = headline(summary)
    metrics, name = summary[row]["metrics"], f"{adapter}: {summary[row]['title']}"
    ausuc, harmonic = (metrics[metric]["difference"] for metric in ("ausuc", "harmonic"))
    seeds = len(metrics["ausuc"]["per_seed"])
    shown, of_h = cell(ausuc, signed=True), cell(harmonic, signed=True)
    if seeds < 2:
        said = f"AUSUC {shown}, H {of_h}, no verdict from a single seed"
        return f"{name}: {said}{_rival(summary, row)}"
    gains = {1: "gains AUSUC", -1: "loses AUSUC", 0: "no significant gain in AUSUC,"}
    colon = "" if _sign(ausuc) else ":"
    doubt = "" if _sign(harmonic) else ", not significant"
    said = f"{gains[_sign(ausuc)]} {shown} over {seeds} seeds; H {of_h}{doubt}"
    return f"{name}{colon} {said}{_rival(summary, row)}"


def _rival(summary: Summary, d3: str) -> str:
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
        given: such as ``d_ausuc < 0`` or ``fclswgan:d3.d_harmonic_to_baseline_calibrated <= 0``;
            without a row, of the headline.
        adapters: host families that are compared.
        rows: that the table has with these settings.
        seeds: how many; with one there is no interval.

    Raises:
        InputError: lists every condition that cannot be understood, and why.
    """
    problems = Problems("--fail-if")
    conditions = []
    for text in [given] if isinstance(given, str) else map(str, given):
        parts = _CONDITION.fullmatch(text)
        if parts is None:
            problems.add(f"{text!r} is not a condition: {SYNTAX}")
            continue
        adapter, row, name, bound = parts["adapter"], parts["row"], parts["name"], parts["bound"]
        metric, to, beside = name.removeprefix("d_").partition("_to_")
        differs = name.startswith("d_")
        for word, known, kind in (
            (adapter, adapters, "adapter"),
            (row, rows, "row"),
            (metric, METRICS, "metric"),
            (beside if to else None, rows, "row"),
            (parts["sign"], _OPERATORS, "operator"),
        ):
            if word is not None and word not in known:
                problems.add(f"{text!r}: no {kind} {word!r} here{did_you_mean(word, [*known])}")
        problems.check(differs or not to, f"{text!r}: a difference is written d_{name}")
        problems.check(not bound or seeds > 1, f"{text!r}: one seed has no interval")
        number = _number(parts["number"])
        problems.check(math.isfinite(number), f"{text!r}: {parts['number']!r} is not a number")
        condition = Condition(
            adapters=tuple(adapters) if adapter is None else (adapter,),
            row=headline(rows) if row is None else row,
            metric=metric,
            beside=(beside or "baseline") if differs else None,
            bound=bound or "",
            sign=parts["sign"],
            number=number,
            text=text.rpartition(":")[2].strip(),
        )
        conditions.append(condition)
    problems.raise_as(InputError)
    return conditions


_CONDITION = re.compile(
    r"\s*(?:(?P<adapter>.*):)?(?:(?P<row>[^\s<>=]*?)\.)??(?P<name>[\w-]+?)"
    r"(?:(?<=\w)\.(?P<bound>low|high))?\s*(?P<sign>[^\w\s.+-]+)\s*(?P<number>\S+)\s*"
)


def _number(text: str) -> float:
    """NaN for what is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def failures(conditions: Sequence[Condition], summaries: Mapping[str, Summary]) -> list[str]:
    """One line for each adapter that a condition holds for: the condition and the figure."""
    lines = []
    for condition in conditions:
        for adapter in condition.adapters:
            summary = summaries[adapter]
            figure: Statistic = summary[condition.row]["metrics"][condition.metric]
            if condition.beside is not None:
                figure = paired(summary, condition.row, condition.beside, condition.metric)
            low, high = bounds(figure)
            mean = figure["mean"] or 0.0
            value = {"low": low, "high": high}.get(condition.bound, mean)
            if _OPERATORS[condition.sign](value, condition.number):
                of_mean = f"mean {mean:.4g}, " if condition.bound else ""
                interval = f" ({of_mean}95 % interval {low:.4g} to {high:.4g})"
                known = interval if figure["half_width"] is not None else ""
                title = summary[condition.row]["title"]
                lines.append(f"{adapter} {condition.text}: of {title} it is {value:.4g}{known}")
    return lines
