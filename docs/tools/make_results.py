"""Writes docs/results.md and its pictures from finished comparisons, and its summary into README.

    python docs/tools/make_results.py docs/results/digits docs/results/cub50 ...

Each folder is the ``--out`` of a ``d3 compare``, or has its results.json, and the ablation.json of
a ``d3 ablate`` if there was one; nothing else is read.
"""

from __future__ import annotations

import argparse
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context

from d3_plugin import D3Settings, InputError
from d3_plugin.experiments import results
from d3_plugin.experiments.figures import TITLES, curve_figure
from d3_plugin.experiments.results import read_results, runs_by_variant
from d3_plugin.experiments.statistics import paired
from d3_plugin.experiments.tables import aligned, cell, table_rows

LOSS = "▼ "
MARKS = ("<!-- results -->", "<!-- /results -->")
BESIDE = {
    "baseline_calibrated": ("ΔH to a constant", "harmonic"),
    "cls": ("ΔAUSUC to L_cls", "ausuc"),
}
"""Row that all others of its table are set beside, with title and measure of that column."""
GLANCE = {
    "ΔH": ("d3", "baseline", "harmonic"),
    "ΔH to a constant": ("d3", "baseline_calibrated", "harmonic"),
    "ΔH, both calibrated": ("d3_calibrated", "baseline_calibrated", "harmonic"),
    "ΔH to logit adjustment": ("d3", "baseline_adjusted", "harmonic"),
    "ΔAUSUC": ("d3", "baseline", "ausuc"),
    "ΔAUSUC to draws summed": ("d3", "baseline_summed", "ausuc"),
}
"""Columns of the overview: row, the row it is set beside, and the measure."""

INTRODUCTION = """\
# Results

`docs/tools/make_results.py` writes this page from the `results.json` of the comparisons, which are
in [results](results); no number was copied by hand. Percent; mean ± half-width of the 95 % t
interval over seeds. Differences are paired: same seed, data draw and initialisation.

- **ΔH** and **ΔAUSUC** are differences to the baseline. ▼ marks a negative difference. An interval
  that contains 0 may be chance, in either direction.
- **ΔH to a constant** is the difference to calibrated stacking on the baseline's own classifier: is
  D³ worth more than subtracting a constant from the seen scores? In **both calibrated**, +D³'s
  offset is chosen like the rival's, on pseudo-unseen classes of the same data, instead of by
  default.
- *Its draws summed* is an ensemble of the baseline's classifiers, one for each draw of synthetic
  features, which reduces variance.
- The row *+ L_cls* of an ablation is an ensemble with a classifier of another kind, but without
  distillation; **ΔAUSUC to L_cls** is what distillation adds to it.

On the birds nothing was chosen on test rows: offsets and strengths come from pseudo-unseen classes
cut from the training classes. Data folders are looked for in `$D3_DATA`.

## What the numbers do not show

- They cannot be compared with published tables. `digits` are raw pixels of ten classes. `cub50` and
  `cub127` are parts of CUB, with fewer classes than its 200 and with features of an EfficientNet
  instead of a ResNet-101. For CUB, AWA2, FLO, SUN and APY there are settings in
  `examples/benchmarks`, but no numbers here.
- A constant can raise H, but not AUSUC. A higher H with the same AUSUC means that a bias was
  removed, which calibrated stacking does at less cost.
- +D³ adds half of the student's log-probabilities to those of the host's classifier. *Host's
  classifier alone* shows what D³ did to the generator. `d3 ablate` has the student without
  distillation, which separates ensembling from distillation. The *offset* is one number for all
  data, times the log of the number of seen classes, chosen once on pseudo-unseen classes
  ([defaults.md](defaults.md)); the row without it shows its effect.
- *Released formulas* are those of the authors' code: the student starts from random weights and
  classifies alone, without offset. With the diffusion, where D³ makes a step with every tenth step
  of the host, it has 200 steps instead of 600. On the birds they gain no AUSUC and lose most with
  the diffusion; on `digits` they gain, with f-CLSWGAN more than the default.
- On `digits` the offset is tuned on a single validation split of one or two pseudo-unseen digits,
  which often hurts: *ΔH to a constant* says little there. The ensemble's weight and the default
  offset were chosen with a view of some of its draws, and training rows of one draw are test rows
  of another.
- There are few seeds: intervals are wide, and among many cells some win or lose by chance.
- Settings are the defaults unless a command says otherwise. Those of the baselines and of D³ were
  chosen on pseudo-unseen classes of `cub50` and `cub127`, but by hand and not in one search with
  the same budget; `d3 tune` is that search.
- Seconds were measured on one machine that also did other work.
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
        text = f"{before}{mark}\n{glance(comparisons)}\n{end}{after}"
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
    comparisons: list[tuple[str, dict[str, Any]]],
    ablations: list[tuple[str, dict[str, Any]]],
    out: Path,
) -> None:
    """Write the page, and one picture for each comparison's table into a folder of its name.

    Args:
        comparisons, ablations: name and content of each; the name is that of its folder.
        out: the Markdown file.
    """
    pictures = out.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    sections = [INTRODUCTION, f"## At a glance\n\n{glance(comparisons)}\n"]
    for name, content in comparisons:
        settings = content["settings"]
        data = Path(settings["data"]).name
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
        data = Path(content["settings"]["data"]).name
        sections.append(
            f"## Which part does it: ablation on {data}\n\n"
            f"```bash\n{command(name, content['settings'])}\n```\n"
        )
        sections += [
            f"### {adapter} on {data}, its parts\n\n{aligned(table(summary))}\n"
            for adapter, summary in content["summary"].items()
        ]
    out.write_text("\n".join(sections), encoding="utf-8")


def glance(comparisons: list[tuple[str, dict[str, Any]]]) -> str:
    """One line for each data set and host family: what +D³ changes, and against the rivals."""
    rows = [["", "seeds", "baseline H", "+D³ H", *GLANCE]]
    for _, content in comparisons:
        data = Path(content["settings"]["data"]).name
        for adapter, summary in content["summary"].items():
            rows.append(
                [
                    f"{adapter}, {data}",
                    str(content["settings"]["seeds"]),
                    *(cell(summary[key]["metrics"]["harmonic"]) for key in ("baseline", "d3")),
                    *(beside(summary, *compared) for compared in GLANCE.values()),
                ]
            )
    return aligned(rows)


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
