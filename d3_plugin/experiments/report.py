"""Tables for terminals and Markdown, ``results.json``, and a self-contained ``report.html``."""

from __future__ import annotations

import base64
import html
import io
import json
import platform
from collections.abc import Collection
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from d3_plugin import __version__
from d3_plugin.experiments.files import write_atomically
from d3_plugin.experiments.statistics import Outcomes, mean_curve

COLUMNS = {
    "unseen": "U",
    "seen": "S",
    "harmonic": "H",
    "ausuc": "AUSUC",
    "zsl": "ZSL",
    "oracle_harmonic": "oracle H",
}
"""Columns of a table: title by metric."""

_STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; }
body { padding: 0 1rem; color: #222; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
td, th { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
td, th { white-space: nowrap; }
td:first-child { text-align: left; }
tr.d3 { background: #eef5fb; font-weight: 600; }
figure { display: inline-block; margin: 1rem .5rem 0 0; max-width: 100%; }
img { max-width: 100%; width: 24rem; }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: 12px; }
.note { color: #555; max-width: 60rem; }"""


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
        summary: of :func:`~d3_plugin.experiments.statistics.summarize`.
        columns: metrics to show.
        mark: put before negative differences.
    """
    rows = [["", *(COLUMNS[metric] for metric in columns), "ΔH", "ΔAUSUC"]]
    for key, row in summary.items():
        metrics = row["metrics"]
        differences = [metrics[metric]["difference"] for metric in ("harmonic", "ausuc")]
        shown = [cell(each, signed=True, mark=mark) for each in differences]
        is_baseline = key == "baseline"
        line = [row["title"], *(cell(metrics[metric]) for metric in columns)]
        rows.append(line + (["", ""] if is_baseline else shown))
    return rows


def text_table(summary: dict[str, Any]) -> str:
    """The table for a terminal; also valid Markdown."""
    return aligned(table_rows(summary))


def aligned(rows: list[list[str]]) -> str:
    """Header and rows as a Markdown table with aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |" for r in rows
    ]
    lines.insert(1, "| " + " | ".join("-" * w for w in widths) + " |")
    return "\n".join(lines)


def runs_by_variant(content: dict[str, Any], adapter: str) -> dict[str, list[dict[str, Any]]]:
    """Test runs of one adapter in ``results.json``, by the variants that pictures show."""
    chosen: dict[str, list[dict[str, Any]]] = {}
    for variant in ("baseline", "d3", "released"):
        key = adapter, variant, "test"
        runs = [r for r in content["runs"] if (r["adapter"], r["variant"], r["split"]) == key]
        if runs:
            chosen[variant] = runs
    return chosen


def results(
    settings: dict[str, Any], outcomes: Outcomes, summaries: dict[str, Any]
) -> dict[str, Any]:
    """The content of ``results.json``."""
    return {
        "settings": settings,
        "versions": {
            "d3_plugin": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "scikit-learn": version("scikit-learn"),
            "python": platform.python_version(),
        },
        "summary": summaries,
        "runs": [
            {
                "adapter": adapter,
                "seed": seed,
                "split": split,
                "variant": variant,
                "data": outcome.data_name,
                "metrics": asdict(outcome.evaluation.metrics),
                "teacher_auroc": outcome.evaluation.teacher_auroc,
                "generator_start": outcome.generator_start,
                "generator_mean": outcome.generator_mean,
                "seconds": round(outcome.seconds, 2),
                "history": [
                    {k: v if k == "step" else float(f"{v:.5g}") for k, v in entry.items()}
                    for entry in outcome.history
                ],
                "curve": mean_curve(outcome).round(4).tolist(),
            }
            for (adapter, seed, split, variant), outcome in sorted(outcomes.items())
        ],
    }


def write_report(
    out: Path,
    settings: dict[str, Any],
    outcomes: Outcomes,
    summaries: dict[str, Any],
    *,
    notes: str,
    files: tuple[str, str],
) -> None:
    """Write ``results.json`` and ``report.html``, or other ``files``, into ``out``."""
    content = results(settings, outcomes, summaries)
    write_atomically(out / files[0], json.dumps(content, indent=1).encode())
    write_atomically(out / files[1], _page(content, outcomes, notes).encode())


def _page(content: dict[str, Any], outcomes: Outcomes, notes: str) -> str:
    sections = [_section(content, outcomes, adapter) for adapter in content["summary"]]
    data = html.escape(str(content["settings"]["data"]))
    details = html.escape(
        json.dumps({k: content[k] for k in ("settings", "versions")}, indent=2, ensure_ascii=False)
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>baseline and +D³ on {data}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
{_STYLE}
</style></head><body>
<h1>Baseline and +D³ on {data}</h1>
<p class="note">{html.escape(notes)}</p>
{"".join(sections)}
<details><summary>Settings and versions</summary><pre>{details}</pre></details>
</body></html>
"""


def _section(content: dict[str, Any], outcomes: Outcomes, adapter: str) -> str:
    from d3_plugin.experiments import figures

    summary, runs = content["summary"][adapter], runs_by_variant(content, adapter)
    header, *rows = table_rows(summary)
    head = "".join(f"<th>{html.escape(c)}</th>" for c in header)
    body = "".join(
        f'<tr class="{key}">' + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>"
        for key, row in zip(summary, rows, strict=True)
    )
    of_d3 = [
        outcome
        for key, outcome in sorted(outcomes.items())
        if key[0] == adapter and key[2:] == ("test", "d3")
    ]
    pictures = {
        "seen-unseen curves": figures.curve_figure(runs, "Seen-unseen curve", per_seed=True),
        "histogram of the teacher's score": figures.teacher_figure(of_d3),
        "loss curves": figures.loss_figure(runs),
    }
    shown = "".join(
        f'<figure><img alt="{alt}" src="data:image/png;base64,{_png(figure)}"></figure>'
        for alt, figure in pictures.items()
    )
    auroc = np.mean([run["teacher_auroc"] or 0.0 for run in runs["d3"]])
    seconds = {v: np.mean([run["seconds"] for run in runs[v]]) for v in ("baseline", "d3")}
    return f"""<h2>{html.escape(adapter)}</h2>
<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>
<p class="note">{len(runs["d3"])} seeds. The teacher separates seen from unseen test rows with AUROC
{auroc:.1%}. Seconds per run: baseline {seconds["baseline"]:.0f}, +D³ {seconds["d3"]:.0f}.</p>
{shown}
"""


def _png(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode()
