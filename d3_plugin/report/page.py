"""A comparison's page with its tables and pictures, all from the content of ``results.json``."""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from d3_plugin.errors import InputError
from d3_plugin.files import write_atomically
from d3_plugin.report import figures
from d3_plugin.report.results import read_results, runs_by_variant
from d3_plugin.report.rows import drawn, headline
from d3_plugin.report.statistics import Summary
from d3_plugin.report.tables import METRICS, csv_table, rows_by_seed, table_rows, tex_table
from d3_plugin.report.verdict import verdict

OUTPUTS = {
    "results.json": ("report.html", "table", ""),
    "ablation.json": ("ablation.html", "ablation", "ablation-"),
}
"""Of each file with results: its page, the name of its tables, the first part of its pictures'."""

KINDS = {"svg": dict.fromkeys(("Creator", "Date", "Format", "Type")), "pdf": {"CreationDate": None}}
"""Of files for pictures, with metadata that would change or name a foreign address."""

_ON_PAGE = {"#000000": "currentColor", "#ffffff": "var(--page)"}


def render_again(out: Path) -> list[Path]:
    """Write the reports of a finished comparison or ablation, or of both, without training.

    Returns:
        The pages.

    Raises:
        InputError: the folder holds neither, or one that cannot be read.
    """
    found = [file for file in OUTPUTS if (out / file).exists()]
    if not found:
        raise InputError(
            f"{out} holds no {' or '.join(OUTPUTS)}; it must be the --out of a command"
        )
    return [write_report(out, file, read_results(out / file)) for file in found]


def write_report(out: Path, file: str, content: dict[str, Any]) -> Path:
    """Write everything that is made from results: the page, the tables, the pictures.

    Args:
        out: gets the page, the tables as CSV and LaTeX, and the folder ``figures`` with every
            picture as SVG and PDF.
        file: ``results.json`` or ``ablation.json``, whose ``content`` it is.

    Returns:
        The page.

    Raises:
        StorageError: a file cannot be written.
    """
    page, table, first = OUTPUTS[file]
    settings, summaries = content["settings"], content["summary"]
    name = settings.get("name") or Path(settings["data"]).name
    headlines = {adapter: headline(summary) for adapter, summary in summaries.items()}
    seeds = f"{settings['seeds']} seed{'s' * (settings['seeds'] != 1)}"
    _write(out / f"{table}.csv", csv_table(summaries, headlines))
    _write(out / f"{table}.tex", tex_table(summaries, headlines, f"{name}, {seeds}"))
    sections = []
    for adapter, summary in summaries.items():
        runs, details = runs_by_variant(content, adapter), content["details"].get(adapter, {})
        pictures = [
            (kind, text, _written(figure, out / "figures" / f"{first}{adapter}-{kind}", text))
            for kind, text, figure in _pictures(summary, runs, details)
        ]
        section = {
            "adapter": adapter,
            "verdict": verdict(adapter, summary).removeprefix(adapter),
            "rows": table_rows(summary),
            "keys": list(summary),
            "headline": headlines[adapter],
            "by_seed": {METRICS[m]: rows_by_seed(summary, m) for m in ("ausuc", "harmonic")},
            "auroc": np.mean([run["teacher_auroc"] or 0.0 for run in runs["d3"]]),
            "seconds": [np.mean([run["seconds"] for run in runs[v]]) for v in ("baseline", "d3")],
            "pictures": pictures,
            "details": details,
            "compared": summary[details["row"]]["title"] if details else "",
        }
        sections.append(section)
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    text = environment.get_template("report.html").render(
        **content,
        title=settings.get("name") or f"Baseline and +D³ on {name}",
        named="name" in settings,
        seeds=seeds,
        settings_text=json.dumps(settings, indent=1, ensure_ascii=False),
        table=table,
        sections=sections,
    )
    _write(out / page, text)
    return out / page


def _write(path: Path, text: str) -> None:
    write_atomically(path, text.encode(errors="backslashreplace"))  # of a path that is no UTF-8


def _pictures(
    summary: Summary, runs: figures.Runs, details: Mapping[str, Any]
) -> Iterator[tuple[str, str, Figure]]:
    """Name, description and figure of what the results of an adapter have."""
    judged = summary[headline(summary)]["title"]
    curves = figures.curve_figure(summary, drawn(summary), "Seen-unseen curve", wide=True)
    yield "curves", f"seen-unseen curves; thick, with its spread over seeds: {judged}", curves
    if details:
        rows = {"baseline": "baseline", "headline": details["row"]}
        titles = {name: summary[row]["title"] for name, row in rows.items()}
        several = f"{titles['baseline']} and {titles['headline']}, means over seeds"
        of_classes = f"accuracy on each class, {several}"
        if len(details["classes"]) > figures.SHOWN_CLASSES:
            of_classes += "; of many classes, those that gain and those that lose most"
        yield "classes", of_classes, figures.class_figure(details["classes"], titles)
    if teacher := details.get("teacher"):
        yield "teacher", "the teacher's score", figures.teacher_figure(teacher)
    if any(run["history"] for of_variant in runs.values() for run in of_variant):
        yield "losses", "the host's losses, means over seeds", figures.loss_figure(runs)
    if any(run["d3_history"] for run in runs["d3"]):
        of_terms = "D³'s terms and the teacher's confidence, means over seeds"
        yield "terms", of_terms, figures.term_figure(runs["d3"])
    if projection := details.get("projection"):
        of_rows = (
            "principal components of real rows (test rows of unseen classes, training rows of seen "
            f"ones) with synthetic rows, seed {projection['seed']}"
        )
        yield "projection", of_rows, figures.projection_figure(projection)


def _written(figure: Figure, path: Path, description: str) -> Markup:
    """The picture for the page, once it is written into files of this name."""
    files = _saved(figure)
    for suffix, picture in files.items():
        write_atomically(path.with_name(f"{path.name}.{suffix}"), picture)
    return _inline(files["svg"].decode(), description)


def _saved(figure: Figure) -> dict[str, bytes]:
    """The picture as SVG, whose text stays text, and as PDF; the same numbers give the same."""
    files = {}
    styles = rc_context({"svg.fonttype": "none", "svg.hashsalt": "d3", "pdf.fonttype": 42})
    with styles, warnings.catch_warnings():
        # A PDF shows a box for letters that Matplotlib's font lacks; a browser has other fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        if layout := figure.get_layout_engine():
            layout.execute(figure)
        figure.set_layout_engine("none")  # done: once for all files
        for kind, metadata in KINDS.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, metadata=metadata)
            files[kind] = buffer.getvalue()
    return files


def _inline(svg: str, description: str) -> Markup:
    """A picture as part of the page, whose text and background colours it takes."""
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r' id="\w+_\d+"', "", svg)  # of figure_1 and the like: an id is unique on a page
    svg = re.sub("|".join(_ON_PAGE), lambda color: _ON_PAGE[color[0]], svg)
    label = Markup('<svg role="img" aria-label="{}" ').format(description)
    return label + Markup(svg.removeprefix("<svg "))
