"""A comparison's table for terminals, Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

from d3_plugin.report.statistics import Statistic, Summary, differences, interval, paired

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

BESIDE = ("harmonic", "ausuc")
"""Metrics whose difference to +D³ a table shows if rows add something to it."""

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
    columns = columns_of(summary)
    rows = [["", *columns]]
    for key, row in summary.items():
        cells = {}
        for metric, title in METRICS.items():
            statistic = row["metrics"][metric]
            cells[title] = cell(statistic)
            cells[f"Δ{title}"] = cell(statistic["difference"], signed=True, mark=mark)
            if key == "baseline":
                cells[f"Δ{title}"] = ""
            if beside := row.get("beside"):
                difference = paired(summary, key, beside, metric)
                cells[_to_d3(metric)] = cell(difference, signed=True, mark=mark)
        rows.append([row["title"], *(cells.get(column, "") for column in columns)])
    return rows


def columns_of(summary: Summary) -> tuple[str, ...]:
    """:data:`COLUMNS`, and the differences to +D³ if something is added to it."""
    has_additions = any("beside" in row for row in summary.values())
    return (*COLUMNS, *(map(_to_d3, BESIDE) if has_additions else ()))


def _to_d3(metric: str) -> str:
    return f"Δ{METRICS[metric]} vs +D³"


def rows_by_seed(summary: Summary, metric: str) -> list[list[str]]:
    """Header and rows of a metric for each seed and, in brackets, for each of its draws."""
    seeds = len(summary["baseline"]["metrics"][metric]["per_seed"])
    rows = [["", *(f"seed {seed}" for seed in range(seeds))]]
    for row in summary.values():
        of_metric, line = row["metrics"][metric], [row["title"]]
        for value, of_draws in zip(of_metric["per_seed"], _per_draw(of_metric), strict=True):
            shown = ", ".join(f"{100 * each:.1f}" for each in of_draws)
            line.append(f"{100 * value:.1f}" + (f" ({shown})" if len(of_draws) > 1 else ""))
        rows.append(line)
    return rows


def aligned(rows: list[list[str]]) -> str:
    """Header and rows as a Markdown table with aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    header, *others = rows
    lines = []
    for row in (header, ["-" * width for width in widths], *others):
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def csv_table(summaries: Mapping[str, Summary], headlines: Mapping[str, str]) -> str:
    """All adapters' rows with the unrounded numbers of ``results.json``, in fractions of 1.

    First a line over all seeds, then one for each seed, and one for each of its draws. ``NAME`` is
    a metric, or its mean over seeds, and ``d_NAME`` its difference to the baseline;
    ``..._half_width`` is of the 95 % interval over seeds. Where rows add something to +D³,
    ``beside`` is the row that they add it to, and ``d_NAME_to_beside`` the difference to that.

    Args:
        summaries: by adapter.
        headlines: key of the row that each adapter is judged by.
    """
    records: list[dict[str, Any]] = []
    for adapter, summary in summaries.items():
        for key, row in summary.items():
            judged = "yes" if key == headlines[adapter] else ""
            named = {"adapter": adapter, "row": key, "title": row["title"], "headline": judged}
            named |= {"seed": "", "draw": ""}
            named |= {"beside": row["beside"]} if "beside" in row else {}
            records += [{**named, **numbers} for numbers in _csv_numbers(summary, key)]
    text = io.StringIO()
    fields = dict.fromkeys(name for record in records for name in record)
    writer = csv.DictWriter(text, list(fields), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _csv_numbers(summary: Summary, key: str) -> Iterator[dict[str, Any]]:
    of_row, beside = summary[key]["metrics"], summary[key].get("beside")
    per_seed = {}  # by column
    for metric in METRICS:
        per_seed[metric] = of_row[metric]["per_seed"]
        per_seed[f"d_{metric}"] = differences(summary, key, "baseline", metric)
        if beside:
            per_seed[f"d_{metric}_to_beside"] = differences(summary, key, beside, metric)
    over_seeds = {}
    for name, values in per_seed.items():
        statistic = interval(values)
        over_seeds[name] = statistic["mean"]
        over_seeds[f"{name}_half_width"] = statistic["half_width"]
    yield over_seeds
    for seed in range(len(of_row["ausuc"]["per_seed"])):
        yield {"seed": seed, **{name: values[seed] for name, values in per_seed.items()}}
        draws = zip(*(_per_draw(of_row[metric])[seed] for metric in METRICS), strict=False)
        for draw, of_draw in enumerate(draws):
            yield {"seed": seed, "draw": draw, **dict(zip(METRICS, of_draw, strict=True))}


def _per_draw(of_metric: dict[str, Any]) -> list[list[float]]:
    """The values of each seed's draws; none in files that lack them."""
    draws: list[list[float]] = of_metric.get("per_draw", [[]] * len(of_metric["per_seed"]))
    return draws


def tex_table(summaries: Mapping[str, Summary], headlines: Mapping[str, str], caption: str) -> str:
    """The tables of the report as one LaTeX ``tabular`` for the package booktabs.

    Args:
        summaries: by adapter.
        headlines: key of the row that each adapter is judged by, which is bold.
        caption: for a comment on the first line.
    """
    columns = max(map(columns_of, summaries.values()), key=len, default=COLUMNS)
    width = len(columns) + 1
    lines = [
        f"% {' '.join(caption.split())}",
        "% Percent; mean and half-width of the 95 % t interval over seeds. Bold: the row judged.",
        r"% Needs \usepackage{booktabs}.",
        rf"\begin{{tabular}}{{l{'r' * (width - 1)}}}",
        r"\toprule",
        rf"{' & '.join(tex(column) for column in ('', *columns))} \\",
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
