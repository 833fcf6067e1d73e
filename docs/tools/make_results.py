"""Writes docs/results.md and its pictures from finished comparisons, and its summary into README.

    python docs/tools/make_results.py docs/results/digits docs/results/cub50 ...

Each folder is the ``--out`` of a ``d3 compare``, or has its results.json, and the ablation.json of
a ``d3 ablate`` if there was one; nothing else is read.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from claims import Contents, claims, data_of
from matplotlib import rc_context

from d3_plugin import D3Settings, InputError
from d3_plugin.report import results
from d3_plugin.report.figures import TITLES, curve_figure
from d3_plugin.report.results import read_results, runs_by_variant
from d3_plugin.report.statistics import paired
from d3_plugin.report.tables import aligned, cell, table_rows

LOSS = "▼ "
MARKS = ("<!-- results -->", "<!-- /results -->")
BESIDE = {
    "baseline_calibrated": ("ΔH to calibrated stacking", "harmonic"),
    "cls": ("ΔAUSUC to L_cls", "ausuc"),
}
"""Row that all others of its table are set beside, with title and measure of that column."""
GLANCE = {
    "ΔH": ("baseline", "harmonic"),
    "ΔH to calibrated stacking": ("baseline_calibrated", "harmonic"),
    "ΔH to logit adjustment": ("baseline_adjusted", "harmonic"),
    "ΔAUSUC": ("baseline", "ausuc"),
    "ΔAUSUC to an ensemble": ("baseline_summed", "ausuc"),
}
"""Columns of the overview: the row that +D³ is set beside, and the measure."""
HEADLINES = {"d3_chosen": "chosen", "d3": "fixed"}
"""The +D³ rows of the overview, and what their weight and offset are."""
HEAD = """\
# Results

`docs/tools/make_results.py` writes this page from the `results.json` of the comparisons, which are
in [results](results); it stops if a sentence of the list no longer holds.
"""

READING = """\
Percent; mean ± half-width of the 95 % t interval over seeds. Differences are paired: same seed,
data draw and initialisation. ▼ marks a negative difference. *Significant* means an interval without
0; among so many, some are by chance.

- **Chosen**: the student's weight and the offset of the seen scores are chosen on the pseudo-unseen
  classes on which the rivals' constants are chosen, cut from the training classes; weight 0, the
  baseline, is among the choices. **Fixed**: the defaults, which `attach(...).evaluate()` uses,
  chosen once for all data ([defaults.md](defaults.md)).
- The rivals cost no training. **Calibrated stacking** subtracts a constant from the seen scores,
  **logit adjustment** the log of the classes' prior; both raise H but not AUSUC. The **ensemble**
  has the baseline's own classifiers, one per draw of synthetic features, which reduces variance.
- The row *+ L_cls* of an ablation is a student without distillation losses: **ΔAUSUC to L_cls** is
  what these add to it.

## What the numbers do not show

- They cannot be compared with published tables. `digits` are raw pixels of ten classes. `cub50`,
  `cub127` and `flo64` are parts of CUB and FLO with features of an EfficientNet, `flo64` of small
  images, instead of a ResNet-101. For CUB, AWA2, FLO, SUN and APY there are settings in
  `examples/benchmarks`, but no numbers here.
- Nothing was chosen on test rows of birds and flowers. On `digits` constants are chosen on a single
  cut of one or two pseudo-unseen digits, which often hurts, and training rows of one draw are test
  rows of another.
- *Released formulas* are those of the authors' code: they train the generator, and the student
  starts from random weights and classifies alone, without offset. With the diffusion, where D³
  makes a step with every tenth step of the host, it has 200 steps instead of 600.
- There are few seeds: intervals are wide.
- Settings are the defaults unless a command says otherwise. Those of the baselines and of D³ were
  chosen on pseudo-unseen classes, but by hand and not in one search with the same budget; `d3 tune`
  is that search.
- Seconds were measured on one machine that also did other work, and are of a training that carries
  all variants which leave the generator alone.
- The runs were made before teacher and student saw the rows of a step in one pass, which changes
  the last digits of a training. Other processors round differently, too.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="--out of finished d3 compare")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results.md")
    parser.add_argument(
        "--readme", type=Path, help="update the part between <!-- results --> marks in this file"
    )
    options = parser.parse_args()
    comparisons = [(folder.name, read(folder)) for folder in options.folders]
    ablations = [
        (folder.name, read(folder, "ablation.json"))
        for folder in options.folders
        if (folder / "ablation.json").exists()
    ]
    write_page(comparisons, ablations, options.out)
    if options.readme:
        before, mark, rest = options.readme.read_text(encoding="utf-8").partition(MARKS[0])
        _, end, after = rest.partition(MARKS[1])
        if not (mark and end):
            raise InputError(f"{options.readme} has no lines {' and '.join(MARKS)}")
        told = "\n".join(f"- {sentence}" for sentence in claims(comparisons, ablations))
        told = re.sub(r"\[([\w.]+)\]\(\1\)", r"`docs/\1`", told)  # no link works on every index
        text = f"{before}{mark}\n{told}\n\n{glance(comparisons, ['d3_chosen'])}\n{end}{after}"
        options.readme.write_text(text, encoding="utf-8")


def read(folder: Path, file: str = "results.json") -> dict[str, Any]:
    """The content of a comparison's ``results.json``, or of its ablation's file.

    Raises:
        InputError: there is none, or it is of an older version.
    """
    content = read_results(folder / file)
    settings = content["settings"]
    used = settings.get("d3") or settings.get("variants", {}).get("d3") or {}
    if (
        any("curve" not in run for run in content["runs"])
        or not (settings.keys() & {"cuts", "variants"})
        or used.keys() != asdict(D3Settings()).keys()
    ):
        raise InputError(
            f"{folder / file} is of an older version: start its command again, which "
            "writes the file anew from the finished runs where these are still the same"
        )
    return content


def write_page(
    comparisons: Contents,
    ablations: Contents,
    out: Path,
) -> None:
    """Write the page, and one picture for each comparison's table into a folder of its name.

    Args:
        comparisons, ablations: name and content of each; the name is that of its folder.
        out: the Markdown file.
    """
    pictures = out.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    told = "\n".join(f"- {sentence}" for sentence in claims(comparisons, ablations))
    sections = [HEAD, f"{told}\n", f"{glance(comparisons)}\n", READING]
    for name, content in comparisons:
        settings = content["settings"]
        data = data_of(content)
        sections.append(f"## {data}\n\n```bash\n{command(name, settings)}\n```\n")
        for adapter, summary in content["summary"].items():
            picture = pictures / f"{name}-{adapter}.svg"
            draw_curves(content, adapter, f"{adapter} on {data}", picture)
            sections.append(
                f"### {adapter} on {data}\n\n{aligned(table(summary))}\n\n"
                f"{run_time(content, adapter)}\n\n"
                f"![seen-unseen curves of {adapter} on {data}]({pictures.name}/{picture.name})\n"
            )
    for name, content in ablations:
        data = data_of(content)
        sections.append(
            f"## Which part does it: ablation on {data}\n\n"
            f"```bash\n{command(name, content['settings'])}\n```\n"
        )
        sections += [
            f"### {adapter} on {data}, its parts\n\n{aligned(table(summary))}\n"
            for adapter, summary in content["summary"].items()
        ]
    out.write_text("\n".join(sections), encoding="utf-8")


def glance(comparisons: Contents, keys: Collection[str] = tuple(HEADLINES)) -> str:
    """For each data set and host family what +D³ changes, against the baseline and its rivals.

    Args:
        comparisons: see :func:`write_page`.
        keys: the +D³ rows, of :data:`HEADLINES`.
    """
    lines = [["", "+D³", "seeds", "baseline H", "+D³ H", *GLANCE]]
    for _, content in comparisons:
        for adapter, summary in content["summary"].items():
            for key in (key for key in keys if key in summary):
                levels = (summary[row]["metrics"]["harmonic"] for row in ("baseline", key))
                lines.append(
                    [
                        f"{adapter}, {data_of(content)}",
                        HEADLINES[key],
                        str(content["settings"]["seeds"]),
                        *map(cell, levels),
                        *(beside(summary, key, *other) for other in GLANCE.values()),
                    ]
                )
    return aligned(lines)


def command(name: str, settings: dict[str, Any]) -> str:
    """The ``d3`` command that these settings are of, without paths of the machine."""
    without_path = {**settings, "data": Path(settings["data"]).name}
    return f"{results.command(without_path)} --out {shlex.quote(f'runs/{name}')}"


def table(summary: dict[str, Any]) -> list[list[str]]:
    """Header and rows with marked losses; the last column depends on the rows there are."""
    rows = table_rows(summary, ("unseen", "seen", "harmonic", "ausuc"), mark=LOSS)
    reference = next((key for key in BESIDE if key in summary), None)
    if reference:
        title, measure = BESIDE[reference]
        rows[0].append(title)
        for key, row in zip(summary, rows[1:], strict=True):
            row.append("" if key == reference else beside(summary, key, reference, measure))
    return rows


def beside(summary: dict[str, Any], row: str, other: str, metric: str) -> str:
    """Cell of ``row`` minus ``other``, marked where it loses; empty where ``other`` is missing."""
    if other not in summary:
        return ""
    return cell(paired(summary, row, other, metric), signed=True, mark=LOSS)


def run_time(content: dict[str, Any], adapter: str) -> str:
    """One line of mean run times."""
    parts = [
        f"{TITLES[variant]} {np.mean([run['seconds'] for run in runs]):.0f}"
        for variant, runs in runs_by_variant(content, adapter).items()
    ]
    settings, versions = content["settings"], content["versions"]
    return (
        f"Mean seconds per test run: {', '.join(parts)} ({settings['device']}, "
        f"{settings['machine']}, torch {versions['torch']}, d3_plugin {versions['d3_plugin']})."
    )


def draw_curves(content: dict[str, Any], adapter: str, title: str, path: Path) -> None:
    """The seen-unseen curves as SVG; the same numbers give the same file, and text stays text."""
    figure = curve_figure(runs_by_variant(content, adapter), title)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "d3"}):
        figure.savefig(path, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
