"""A comparison's table for terminals, Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

from d3_plugin.report.statistics import Statistic, Summary

METRICS = {
    "unseen": "U",
    "seen": "S",
    "harmonic": "H",
    "ausuc": "AUSUC",
    "zsl": "ZSL",
    "oracle_harmonic": "oracle H",
}
"""Title by metric."""

COLUMNS = ("U", "S", "H", "AUSUC", "ΔH", "ΔAUSUC", "ZSL", "oracle H")
"""Of the table; Δ is the difference to the baseline."""

_TEX: dict[str, str | int | None] = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "²": "$^2$",
    "³": "$^3$",
    "<": "$<$",
    ">": "$>$",
    **{character: rf"\{character}" for character in "&%$#_{}"},
}


def cell(statistic: Statistic, *, signed: bool = False, mark: str = "") -> str:
    """``54.2 ± 1.3`` in percent, no interval for a single seed; ``mark`` before negative ones."""
    mean, half_width = statistic["mean"], statistic["half_width"]
    percent = round(100 * (mean or 0.0), 1) + 0.0  # no "-0.0"
    text = f"{percent:+.1f}" if signed else f"{percent:.1f}"
    text = mark + text if percent < 0 else text
    return text if half_width is None else f"{text} ± {100 * half_width:.1f}"


def table_rows(summary: Summary, *, mark: str = "") -> list[list[str]]:
    """Header and rows of one adapter's table; ``mark`` is put before negative differences."""
    metric_of = {title: metric for metric, title in METRICS.items()}
    rows = [["", *COLUMNS]]
    for key, row in summary.items():
        line = [row["title"]]
        for column in COLUMNS:
            of_metric = row["metrics"][metric_of[column.removeprefix("Δ")]]
            if column.startswith("Δ"):
                difference = cell(of_metric["difference"], signed=True, mark=mark)
                line.append("" if key == "baseline" else difference)
            else:
                line.append(cell(of_metric))
        rows.append(line)
    return rows


def rows_by_seed(summary: Summary, metric: str) -> list[list[str]]:
    """Header and rows of a metric for each seed and, in brackets, for each of its draws."""
    seeds = len(summary["baseline"]["metrics"][metric]["per_seed"])
    rows = [["", *(f"seed {seed}" for seed in range(seeds))]]
    for row in summary.values():
        of_metric = row["metrics"][metric]
        draws = of_metric.get("per_draw", [[]] * seeds)
        line = [row["title"]]
        for value, of_draws in zip(of_metric["per_seed"], draws, strict=True):
            shown = ", ".join(f"{100 * each:.1f}" for each in of_draws)
            line.append(f"{100 * value:.1f}" + (f" ({shown})" if len(of_draws) > 1 else ""))
        rows.append(line)
    return rows


def aligned(rows: list[list[str]]) -> str:
    """Header and rows as a Markdown table with aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |" for r in rows
    ]
    lines.insert(1, "| " + " | ".join("-" * w for w in widths) + " |")
    return "\n".join(lines)


def csv_table(summaries: Mapping[str, Summary], headlines: Mapping[str, str]) -> str:
    """All adapters' rows with the unrounded numbers of ``results.json``, in fractions of 1.

    First a line over all seeds, then one for each seed, and one for each of its draws. ``NAME`` is
    a metric, or its mean over seeds, and ``d_NAME`` its difference to the baseline;
    ``..._half_width`` is of the 95 % interval over seeds.

    Args:
        summaries: by adapter.
        headlines: key of the row that each adapter is judged by.
    """
    text = io.StringIO()
    columns = [f"{d}{metric}{part}" for metric in METRICS for d in ("", "d_") for part in _PARTS]
    fields = ["adapter", "row", "title", "headline", "seed", "draw", *columns]
    writer = csv.DictWriter(text, fields, restval="", lineterminator="\n")
    writer.writeheader()
    for adapter, summary in summaries.items():
        for key, row in summary.items():
            judged = "yes" if key == headlines[adapter] else ""
            named = {"adapter": adapter, "row": key, "title": row["title"], "headline": judged}
            for numbers in _csv_numbers(row["metrics"], summary["baseline"]["metrics"]):
                writer.writerow({**named, **numbers})
    return text.getvalue()


_PARTS = {"": "mean", "_half_width": "half_width"}


def _csv_numbers(of_row: dict[str, Any], of_baseline: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {
        f"{d}{metric}{part}": statistic[field]
        for metric in METRICS
        for d, statistic in (("", of_row[metric]), ("d_", of_row[metric]["difference"]))
        for part, field in _PARTS.items()
    }
    for seed in range(len(of_row["ausuc"]["per_seed"])):
        values = {metric: of_row[metric]["per_seed"][seed] for metric in METRICS}
        gains = {f"d_{m}": v - of_baseline[m]["per_seed"][seed] for m, v in values.items()}
        yield {"seed": seed, **values, **gains}
        draws = {
            metric: of_row[metric].get("per_draw", [[]] * (seed + 1))[seed] for metric in METRICS
        }
        for draw, values_of_draw in enumerate(zip(*draws.values(), strict=False)):
            yield {"seed": seed, "draw": draw, **dict(zip(draws, values_of_draw, strict=True))}


def tex_table(summaries: Mapping[str, Summary], headlines: Mapping[str, str], caption: str) -> str:
    """The tables of the report as one LaTeX ``tabular`` for the package booktabs.

    Args:
        summaries: by adapter.
        headlines: key of the row that each adapter is judged by, which is bold.
        caption: for a comment on the first line.
    """
    width = len(COLUMNS) + 1
    lines = [
        f"% {' '.join(caption.split())}",
        "% Percent; mean and half-width of the 95 % t interval over seeds. Bold: the row judged.",
        r"% Needs \usepackage{booktabs}.",
        rf"\begin{{tabular}}{{l{'r' * (width - 1)}}}",
        r"\toprule",
        rf"{' & '.join(tex(column) for column in ('', *COLUMNS))} \\",
    ]
    for adapter, summary in summaries.items():
        lines += [r"\midrule", rf"\multicolumn{{{width}}}{{l}}{{\textit{{{tex(adapter)}}}}} \\"]
        for key, (title, *cells) in zip(summary, table_rows(summary)[1:], strict=True):
            shown = rf"\textbf{{{tex(title)}}}" if key == headlines[adapter] else tex(title)
            lines.append(rf"{' & '.join([shown, *map(tex, cells)])} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def tex(text: str) -> str:
    """Text with LaTeX's special characters escaped, and a minus sign before negative numbers."""
    return re.sub(r"^-(?=\d)", "$-$", text.translate(str.maketrans(_TEX)))
