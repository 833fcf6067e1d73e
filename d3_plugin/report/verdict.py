"""What a comparison comes to: a sentence for readers, and ``--fail-if`` conditions for CI."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from d3_plugin.checks import did_you_mean
from d3_plugin.errors import InputError, Problems
from d3_plugin.report.rows import headline
from d3_plugin.report.statistics import Statistic, Summary, paired
from d3_plugin.report.tables import METRICS, cell

SYNTAX = "[ADAPTER:][ROW.]NAME[.low|.high] (< <= > >=) NUMBER"
_JUDGED = ("ausuc", "harmonic")
_OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def verdict(adapter: str, summary: Summary) -> str:
    """What the headline changes, and what is added to it; significant: the interval excludes 0."""
    row = headline(summary)
    metrics = summary[row]["metrics"]
    gains = [metrics[metric]["difference"] for metric in _JUDGED]
    text = f"{adapter}: {_gain(summary[row], gains)}{_rival(summary)}"
    for key in summary:
        if summary[key].get("beside") == row:
            gains = [paired(summary, key, row, metric) for metric in _JUDGED]
            text += f". Beside it {_gain(summary[key], gains)}"
    return text


def _gain(row: Mapping[str, Any], gains: Sequence[Statistic]) -> str:
    """The title of a row, and what it gains in :data:`_JUDGED`."""
    ausuc, harmonic = gains
    seeds = len(row["metrics"]["ausuc"]["per_seed"])
    of_ausuc, of_h = cell(ausuc, signed=True), cell(harmonic, signed=True)
    if seeds < 2:
        said = f": AUSUC {of_ausuc}, H {of_h}, no verdict from a single seed"
    else:
        gain = {1: " gains AUSUC", -1: " loses AUSUC", 0: ": no significant gain in AUSUC,"}
        doubt = "" if _sign(harmonic) else ", not significant"
        said = f"{gain[_sign(ausuc)]} {of_ausuc} over {seeds} seeds; H {of_h}{doubt}"
    return f"{row['title']}{said}"


def _rival(summary: Summary) -> str:
    """What the cheap rival gains without D³: a constant, or in an ablation L_cls alone."""
    if rival := summary.get("baseline_calibrated"):
        gain = rival["metrics"]["harmonic"]["difference"]["mean"]
        return f"; calibrated stacking alone gives H {_signed(gain)}"
    if rival := summary.get("cls"):
        gain = rival["metrics"]["ausuc"]["difference"]["mean"]
        return f"; L_cls alone gives AUSUC {_signed(gain)}"
    return ""


def _signed(mean: float) -> str:
    return cell({"mean": mean, "half_width": None}, signed=True)


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
            value = {"": mean, "low": low, "high": high}[condition.bound]
            if _OPERATORS[condition.sign](value, condition.number):
                title = summary[condition.row]["title"]
                line = f"{adapter} {condition.text}: of {title} it is {value:.4g}"
                if figure["half_width"] is not None:
                    of_mean = f"mean {mean:.4g}, " if condition.bound else ""
                    line += f" ({of_mean}95 % interval {low:.4g} to {high:.4g})"
                lines.append(line)
    return lines
