"""A comparison's table for terminals, Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Mapping
from typing import Any

COLUMNS = {
    "unseen": "U",
    "seen": "S",
    "harmonic": "H",
    "ausuc": "AUSUC",
    "zsl": "ZSL",
    "oracle_harmonic": "oracle H",
}
"""Columns of a table: title by metric."""

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


def cell(statistic: dict[str, float | None], *, signed: bool = False, mark: str = "") -> str:
    """``54.2 ± 1.3`` in percent, no interval for a single seed; ``mark`` before negative ones."""
    mean, half_width = statistic["mean"], statistic["half_width"]
    percent = round(100 * (mean or 0.0), 1) + 0.0  # no "-0.0"
    text = f"{percent:+.1f}" if signed else f"{percent:.1f}"
    text = mark + text if percent < 0 else text
    return text if half_width is None else f"{text} ± {100 * half_width:.1f}"


def table_rows(
    summary: dict[str, Any], columns: Collection[str] = tuple(COLUMNS), *, mark: str = ""
) -> list[list[str]]:
    """Header and rows of one adapter's table, with differences to the baseline in H and AUSUC.

    Args:
        summary: of :func:`~d3_plugin.report.statistics.summarize`.
        columns: metrics to show.
        mark: put before negative differences.
    """
    rows = [["", *(COLUMNS[metric] for metric in columns), "ΔH", "ΔAUSUC"]]
    for key, row in summary.items():
        metrics = row["metrics"]
        differences = [metrics[metric]["difference"] for metric in ("harmonic", "ausuc")]
        shown = [cell(each, signed=True, mark=mark) for each in differences]
        line = [row["title"], *(cell(metrics[metric]) for metric in columns)]
        rows.append(line + (["", ""] if key == "baseline" else shown))
    return rows


def aligned(rows: list[list[str]]) -> str:
    """Header and rows as a Markdown table with aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |" for r in rows
    ]
    lines.insert(1, "| " + " | ".join("-" * w for w in widths) + " |")
    return "\n".join(lines)


def csv_table(summaries: Mapping[str, dict[str, Any]]) -> str:
    """All adapters' rows with the unrounded numbers of ``results.json``, in fractions of 1.

    ``NAME`` is the mean of a metric over seeds and ``d_NAME`` that of its difference to the
    baseline; ``..._half_width`` is of the 95 % interval, empty for a single seed.
    """
    names = [f"{d}{metric}{part}" for metric in COLUMNS for d in ("", "d_") for part in _PARTS]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["adapter", "row", "title", *names])
    for adapter, summary in summaries.items():
        for key, row in summary.items():
            of_row = [row["metrics"][metric] for metric in COLUMNS]
            both = [each for metric in of_row for each in (metric, metric["difference"])]
            numbers = [each[part] for each in both for part in _PARTS.values()]
            writer.writerow([adapter, key, row["title"], *numbers])
    return text.getvalue()


_PARTS = {"": "mean", "_half_width": "half_width"}


def tex_table(summaries: Mapping[str, dict[str, Any]], caption: str) -> str:
    """The tables of the report as one LaTeX ``tabular`` for the package booktabs.

    Args:
        summaries: by adapter.
        caption: for a comment on the first line.
    """
    width = len(COLUMNS) + 3
    lines = [
        f"% {' '.join(caption.split())}",
        "% Percent; mean and half-width of the 95 % t interval over seeds.",
        r"% Needs \usepackage{booktabs}.",
        rf"\begin{{tabular}}{{l{'r' * (width - 1)}}}",
        r"\toprule",
    ]
    for number, (adapter, summary) in enumerate(summaries.items()):
        header, *rows = [" & ".join(tex(each) for each in row) for row in table_rows(summary)]
        lines += [rf"{header} \\"] if number == 0 else []
        lines += [r"\midrule", rf"\multicolumn{{{width}}}{{l}}{{\textit{{{tex(adapter)}}}}} \\"]
        lines += [rf"{row} \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def tex(text: str) -> str:
    """Text with LaTeX's special characters escaped, and a minus sign before negative numbers."""
    return re.sub(r"^-(?=\d)", "$-$", text.translate(str.maketrans(_TEX)))
