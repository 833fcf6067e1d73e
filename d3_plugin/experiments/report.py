"""Tables for terminals and Markdown, ``results.json``, and a self-contained ``report.html``."""

from __future__ import annotations

import base64
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
from jinja2 import Template

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
    template = Template(Path(__file__).with_name("report.html").read_text("utf-8"), autoescape=True)
    details = {k: content[k] for k in ("settings", "versions")}
    page = template.render(
        notes=notes,
        data=settings["data"],
        seeds=settings["seeds"],
        sections=[_section(content, outcomes, adapter) for adapter in summaries],
        details=json.dumps(details, indent=2, ensure_ascii=False),
    )
    write_atomically(out / files[1], page.encode(errors="backslashreplace"))


def _section(content: dict[str, Any], outcomes: Outcomes, adapter: str) -> dict[str, Any]:
    """What the template shows of one adapter."""
    from d3_plugin.experiments import figures

    summary, runs = content["summary"][adapter], runs_by_variant(content, adapter)
    of_d3 = [o for key, o in outcomes.items() if key[::2] == (adapter, "test") and key[3] == "d3"]
    return {
        "adapter": adapter,
        "rows": table_rows(summary),
        "keys": list(summary),
        "auroc": np.mean([run["teacher_auroc"] or 0.0 for run in runs["d3"]]),
        "seconds": [np.mean([run["seconds"] for run in runs[v]]) for v in ("baseline", "d3")],
        "pictures": {
            "seen-unseen curves": _png(figures.curve_figure(runs, "Seen-unseen curve", True)),
            "histogram of the teacher's score": _png(figures.teacher_figure(of_d3)),
            "loss curves": _png(figures.loss_figure(runs)),
        },
    }


def _png(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode()
