"""The comparison as text, as ``results.json`` and as a self-contained ``report.html``."""

from __future__ import annotations

import base64
import html
import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch

from d3_plugin import __version__
from d3_plugin.experiments.figures import (
    loss_figure,
    mean_curve,
    seen_unseen_figure,
    teacher_figure,
)
from d3_plugin.experiments.files import write_atomically
from d3_plugin.experiments.run import Outcome
from d3_plugin.experiments.statistics import Outcomes

_COLUMNS = {"unseen": "U", "seen": "S", "harmonic": "H", "ausuc": "AUSUC", "zsl": "ZSL"}
_ORACLE = {"oracle_harmonic": "oracle H"}
_DIFFERENCES = {"harmonic": "ΔH", "ausuc": "ΔAUSUC"}

NOTES = (
    "Percent; mean ± half-width of the 95 % t interval over seeds. Δ: paired difference to the "
    "baseline of the same seed, data draw and initialisation. Calibration offsets and adjustment "
    "strengths are chosen on pseudo-unseen classes cut from the training classes, once for all "
    "seeds of a problem; oracle H, the best H over all offsets, is chosen on test rows and only "
    "bounds what calibration could give. "
    "A constant bias cannot change AUSUC. Its draws summed, where there are several: the scores of "
    "the baseline's classifiers of all draws added, which averages their noise. +D³ scores as the "
    "setting final_classifier says: by default with the log-probabilities of the host's own "
    "classifier, trained on features of the +D³ generator, which a row shows alone, plus "
    "ensemble_weight times the student's; less seen_offset times the log of the number of seen "
    "classes on the seen scores, which moves H but not AUSUC."
)

CURVE_SEEN = np.linspace(0, 1, 51)
"""Values of S at which ``results.json`` has U of the seen-unseen curve."""

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


def cell(statistic: dict[str, float | None], *, signed: bool = False) -> str:
    """``54.2 ± 1.3`` in percent; no interval for a single seed."""
    mean, half_width = statistic["mean"], statistic["half_width"]
    percent = round(100 * (mean or 0.0), 1) + 0.0  # no "-0.0"
    text = f"{percent:+.1f}" if signed else f"{percent:.1f}"
    return text if half_width is None else f"{text} ± {100 * half_width:.1f}"


def table_rows(summary: dict[str, Any]) -> list[list[str]]:
    """Header and rows of one adapter's table."""
    header = ["", *_COLUMNS.values(), *_ORACLE.values(), *_DIFFERENCES.values()]
    rows = [header]
    for key, row in summary.items():
        metrics = row["metrics"]
        line = [row["title"], *(cell(metrics[m]) for m in (*_COLUMNS, *_ORACLE))]
        for metric in _DIFFERENCES:
            is_baseline = key == "baseline"
            line.append("" if is_baseline else cell(metrics[metric]["difference"], signed=True))
        rows.append(line)
    return rows


def text_table(summary: dict[str, Any]) -> str:
    """The table for a terminal; also valid Markdown."""
    return aligned(table_rows(summary))


def aligned(rows: list[list[str]]) -> str:
    """Header and rows as a Markdown table whose columns stand below each other."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |" for r in rows
    ]
    lines.insert(1, "| " + " | ".join("-" * w for w in widths) + " |")
    return "\n".join(lines)


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
            "scikit-learn": sklearn.__version__,
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
                "curve": mean_curve(outcome, CURVE_SEEN).round(4).tolist(),
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
    files: tuple[str, str] = ("results.json", "report.html"),
    notes: str = NOTES,
) -> None:
    """Write ``results.json`` and ``report.html``, or ``files``, into ``out``."""
    content = results(settings, outcomes, summaries)
    write_atomically(out / files[0], json.dumps(content, indent=1).encode())
    write_atomically(out / files[1], _page(content, outcomes, notes).encode())


def _page(content: dict[str, Any], outcomes: Outcomes, notes: str) -> str:
    sections = []
    for adapter, summary in content["summary"].items():
        of_adapter = {
            variant: [
                outcome
                for (name, _, split, v), outcome in sorted(outcomes.items())
                if (name, split, v) == (adapter, "test", variant)
            ]
            for variant in ("baseline", "d3", "released")
        }
        drawn = {variant: runs for variant, runs in of_adapter.items() if runs}
        sections.append(_section(adapter, summary, drawn))
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


def _section(adapter: str, summary: dict[str, Any], outcomes: dict[str, list[Outcome]]) -> str:
    header, *rows = table_rows(summary)
    head = "".join(f"<th>{html.escape(c)}</th>" for c in header)
    body = "".join(
        f'<tr class="{key}">' + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>"
        for key, row in zip(summary, rows, strict=True)
    )
    pictures = {
        "seen-unseen curves": seen_unseen_figure(outcomes),
        "histogram of the teacher's score": teacher_figure(outcomes["d3"]),
        "loss curves": loss_figure(outcomes),
    }
    figures = "".join(
        f'<figure><img alt="{alt}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        "</figure>"
        for alt, png in pictures.items()
    )
    auroc = [o.evaluation.teacher_auroc or 0.0 for o in outcomes["d3"]]
    seconds = {v: sum(o.seconds for o in runs) / len(runs) for v, runs in outcomes.items()}
    return f"""<h2>{html.escape(adapter)}</h2>
<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>
<p class="note">{len(auroc)} seeds. Teacher tells seen from unseen test rows with AUROC
{sum(auroc) / len(auroc):.1%}. Seconds per run: baseline {seconds["baseline"]:.0f}, +D³
{seconds["d3"]:.0f}.</p>
{figures}
"""
