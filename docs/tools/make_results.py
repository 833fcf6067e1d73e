"""Writes docs/results.md and its pictures from finished comparisons, and its summary into README.

    python docs/tools/make_results.py --readme README.md

Each folder, by default all of docs/results, is the ``--out`` of a ``d3 compare``, or has its
results.json, and the ablation.json of a ``d3 ablate`` and the end-to-end.json of a comparison with
``--preset end-to-end`` if there were any; nothing else is read.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from claims import Contents, claims, data_of, holm
from matplotlib import rc_context

from d3_plugin import InputError
from d3_plugin.report.figures import curve_figure
from d3_plugin.report.results import read_results, runs_by_variant
from d3_plugin.report.rows import drawn, headline
from d3_plugin.report.statistics import differences, paired
from d3_plugin.report.tables import aligned, cell, table_rows

LOSS = "▼ "
MARKS = ("<!-- results -->", "<!-- /results -->")
BESIDE = {
    "baseline_calibrated": ("ΔH vs calibrated stacking", "harmonic"),
    "cls": ("ΔAUSUC vs L_cls", "ausuc"),
}
"""Row that all others of its table are set beside, with title and measure of that column."""
GLANCE = {
    "ΔAUSUC": ("baseline", "ausuc"),
    "ΔAUSUC vs ensemble": ("baseline_summed", "ausuc"),
    "ΔH": ("baseline", "harmonic"),
    "ΔH vs calibrated stacking": ("baseline_calibrated", "harmonic"),
    "ΔH vs logit adjustment": ("baseline_adjusted", "harmonic"),
}
"""Columns of the overview: the row that +D³ is set beside, and the measure."""
JUDGED = {"d3_chosen": "tuned", "d3": "defaults"}
"""The +D³ rows of the overview, and where their weight and offset come from."""
TRAININGS = {"baseline": "baseline", "d3": "+D³", "released": "released formulas"}
COLUMNS = 7  # of a row's table: without ZSL and oracle H
FOLDERS = sorted(path.parent for path in Path(__file__).parents[1].glob("results/*/results.json"))
TRAINED_TOO = """\
## The generator trained, too

The paper's form: with `--preset end-to-end`, D³'s losses also train the generator, at 3 % of its
gradient. *Host's classifier* is that of the generator alone, without the student. The last column
sets each row beside the same row with the generator left alone, on the same seeds. Host, draws and
settings are as above; seeds and cuts are fewer where the command says so. Made at commit a52814f:
on the same seeds its baselines agree with those above to 0.4 points of AUSUC.
"""

HEAD = """\
# Results

`docs/tools/make_results.py` writes this page from the `results.json` of the comparisons, which are
in [results](results); it stops if a sentence of the list no longer holds.
"""

READING = """\
Percent; mean ± half-width of the 95 % t interval over seeds. Differences are paired: same seed,
data draw and initialisation. ▼ marks a negative difference, \\* one that is significant after
Holm's correction for all settings of its column (a chance of 5 % for any false one). *Uncorrected*
counts intervals without 0.

- **Tuned on validation classes**: the student's weight and the offset of the seen scores are chosen
  on the pseudo-unseen classes on which the rivals' constants are chosen, cut from the training
  classes; weight 0, the baseline, is among the choices. A script gets this row with
  `d3.calibrate()`. **Defaults**: what `d3.evaluate()` uses, chosen once for all data
  ([defaults.md](defaults.md)).
- The rivals cost no training. **Calibrated stacking** subtracts a constant from the seen scores,
  **logit adjustment** a multiple of the log of the classes' prior. Both raise H in most settings,
  not with the diffusion on digits. Calibrated stacking cannot change AUSUC; logit adjustment gains
  none, and loses 1 to 2 points on `flo64`. The **ensemble** has the baseline's own classifiers, one
  per draw of synthetic features, which reduces variance.
- The row *+ L_cls* of an ablation is a student without distillation losses: **ΔAUSUC vs L_cls** is
  what these add to it.

## What the numbers do not show

- They cannot be compared with published tables. `digits` are raw pixels of ten classes. `cub50`
  and `cub127` are parts of CUB. `flo64` has all images of FLO, but at 64 × 64 pixels and with a
  split into seen and unseen classes that is not the official one. All three have features of
  EfficientNets instead of a ResNet-101. For CUB, AWA2, FLO, SUN and APY there are settings in
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
  the last digits of a training. Results vary slightly between CPUs, too.
- Of these runs the curves of the trainings are kept: pictures show that of *+D³ (defaults)*, and of
  the tuned row the dots, which lie on a curve of nearly the same area.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        *("folders",), nargs="*", type=Path, help="--out of finished d3 compare", default=FOLDERS
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results.md")
    parser.add_argument(
        "--readme", type=Path, help="update the part between <!-- results --> marks in this file"
    )
    options = parser.parse_args()
    comparisons = [
        (folder.name, read_results(folder / "results.json")) for folder in options.folders
    ]
    ablations, end_to_end = (
        [
            (folder.name, read_results(folder / file))
            for folder in options.folders
            if (folder / file).exists()
        ]
        for file in ("ablation.json", "end-to-end.json")
    )
    write_page(comparisons, ablations, options.out, end_to_end)
    if options.readme:
        before, mark, rest = options.readme.read_text(encoding="utf-8").partition(MARKS[0])
        _, end, after = rest.partition(MARKS[1])
        if not (mark and end):
            raise InputError(f"{options.readme} has no lines {' and '.join(MARKS)}")
        told = "\n".join(f"- {sentence}" for sentence in claims(comparisons, ablations, end_to_end))
        told = re.sub(r"\[([\w.]+)\]\(\1\)", r"`docs/\1`", told)  # no link works on every index
        table = glance(comparisons, ["d3_chosen"])
        table = re.sub(r"(?<=\d) (?=±|\\\*)|(?<=±) ", "\N{NO-BREAK SPACE}", table)  # narrow pages
        text = f"{before}{mark}\n{told}\n\n{table}\n{end}{after}"
        options.readme.write_text(text, encoding="utf-8")


def write_page(
    comparisons: Contents,
    ablations: Contents,
    out: Path,
    end_to_end: Contents = (),
) -> None:
    """Write the page, and one picture for each comparison's table into a folder of its name.

    Args:
        comparisons, ablations: name and content of each; the name is that of its folder.
        out: the Markdown file.
        end_to_end: comparisons with the generator trained, of some of the same names.
    """
    pictures = out.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    told = "\n".join(f"- {sentence}" for sentence in claims(comparisons, ablations, end_to_end))
    sections = [HEAD, f"{told}\n", f"{glance(comparisons)}\n", READING]
    for name, content in comparisons:
        data = data_of(content)
        sections.append(f"## {data}\n\n```bash\n{command(name, content)}\n```\n")
        for adapter, summary in content["summary"].items():
            picture = pictures / f"{name}-{adapter}.svg"
            draw_curves(content, adapter, f"{adapter} on {data}", picture)
            sections.append(
                f"### {adapter} on {data}\n\n{aligned(table(summary))}\n\n"
                f"{run_time(content, adapter)}\n\n"
                f"![seen-unseen curves of {adapter} on {data}]({pictures.name}/{picture.name})\n"
            )
    if end_to_end:
        commands = "\n".join(command(f"{name}-end-to-end", made) for name, made in end_to_end)
        lines = beside_left_alone(end_to_end, dict(comparisons))
        sections.append(f"{TRAINED_TOO}\n```bash\n{commands}\n```\n\n{aligned(lines)}\n")
    for name, content in ablations:
        data = data_of(content)
        sections.append(
            f"## Which part does it: ablation on {data}\n\n```bash\n{command(name, content)}\n```\n"
        )
        sections += [
            f"### {adapter} on {data}, its parts\n\n{aligned(table(summary))}\n"
            for adapter, summary in content["summary"].items()
        ]
    out.write_text("\n".join(sections), encoding="utf-8")


def beside_left_alone(
    end_to_end: Contents, comparisons: Mapping[str, dict[str, Any]]
) -> list[list[str]]:
    """What +D³ changes where the generator is trained, too; also against the generator left alone.

    Args:
        end_to_end: see :func:`write_page`.
        comparisons: content of those with the generator left alone, by name; their first seeds are
            those of ``end_to_end``.
    """
    lines = [["", "seeds", "+D³", "ΔAUSUC", "ΔH", "ΔAUSUC vs left alone"]]
    for name, content in end_to_end:
        seeds = content["settings"]["seeds"]
        for adapter, summary in content["summary"].items():
            for key, title in {"d3_host": "host's classifier", **JUDGED}.items():
                alone = comparisons[name]["summary"][adapter][key]["metrics"]["ausuc"]["per_seed"]
                row = {"metrics": {"ausuc": {"per_seed": alone[:seeds]}}}
                changes = [beside(summary, key, "baseline", m) for m in ("ausuc", "harmonic")]
                changes.append(beside({**summary, "alone": row}, key, "alone", "ausuc"))
                lines.append([f"{adapter}, {data_of(content)}", str(seeds), title, *changes])
    return lines


def glance(comparisons: Contents, keys: Collection[str] = tuple(JUDGED)) -> str:
    """For each data set and host family what +D³ changes, against the baseline and its rivals.

    Args:
        comparisons: see :func:`write_page`.
        keys: the +D³ rows, of :data:`JUDGED`; of a single one the column that names it is left out.
    """
    cells = [
        (f"{adapter}, {data_of(content)}", summary)
        for _, content in comparisons
        for adapter, summary in content["summary"].items()
    ]
    columns = {
        key: [starred([s for _, s in cells], key, *other) for other in GLANCE.values()]
        for key in keys
    }
    lines = [["", *(["+D³"] if len(keys) > 1 else []), *GLANCE, "baseline H", "+D³ H"]]
    for number, (name, summary) in enumerate(cells):
        for key in keys:
            if key in summary:
                levels = (summary[row]["metrics"]["harmonic"] for row in ("baseline", key))
                kind = [JUDGED[key]] if len(keys) > 1 else []
                changes = [column[number] for column in columns[key]]
                lines.append([name, *kind, *changes, *map(cell, levels)])
    seeds = ", ".join(f"{data_of(c)} {c['settings']['seeds']}" for _, c in comparisons)
    return f"{aligned(lines)}\n\nSeeds: {seeds}."


def starred(summaries: list[dict[str, Any]], row: str, other: str, metric: str) -> list[str]:
    """A column of the overview; those cells that are significant among all of it have a star."""
    known = [number for number, summary in enumerate(summaries) if {row, other} <= {*summary}]
    sure = holm(differences(summaries[number], row, other, metric) for number in known)
    stars = dict(zip(known, sure, strict=True))
    return [
        beside(summary, row, other, metric) + (r" \*" if stars.get(number) else "")
        for number, summary in enumerate(summaries)
    ]


def command(name: str, content: dict[str, Any]) -> str:
    """The command that made these results, without paths of the machine."""
    path = shlex.quote(content["settings"]["data"])
    told = content["command"].replace(f"--data {path}", f"--data {shlex.quote(data_of(content))}")
    return f"{told} --out {shlex.quote(f'runs/{name}')}"


def table(summary: dict[str, Any]) -> list[list[str]]:
    """Header and rows with marked losses; the last column depends on the rows there are."""
    rows = [row[:COLUMNS] for row in table_rows(summary, mark=LOSS)]
    reference = next((key for key in BESIDE if key in summary), None)
    if reference:
        title, measure = BESIDE[reference]
        rows[0].append(title)
        for key, row in zip(summary, rows[1:], strict=True):
            row.append("" if key == reference else beside(summary, key, reference, measure))
    return rows


def beside(summary: dict[str, Any], row: str, other: str, metric: str) -> str:
    """Cell of ``row`` minus ``other``, marked where it loses; empty where ``other`` is missing."""
    if not {row, other} <= {*summary}:
        return ""
    return cell(paired(summary, row, other, metric), signed=True, mark=LOSS)


def run_time(content: dict[str, Any], adapter: str) -> str:
    """One line of mean run times."""
    parts = [
        f"{TRAININGS.get(variant, variant)} {np.mean([run['seconds'] for run in runs]):.0f}"
        for variant, runs in runs_by_variant(content, adapter).items()
    ]
    settings, versions = content["settings"], content["versions"]
    return (
        f"Mean seconds per test run: {', '.join(parts)} ({settings['device']}, "
        f"{settings['machine']}, torch {versions['torch']}, d3_plugin {versions['d3_plugin']})."
    )


def draw_curves(content: dict[str, Any], adapter: str, title: str, path: Path) -> None:
    """The seen-unseen curves as SVG; the same numbers give the same file, and text stays text."""
    summary = content["summary"][adapter]
    keys = drawn(summary)
    if not summary[headline(summary)]["curves"]:  # not kept: that of the same training
        keys.append("d3")
    figure = curve_figure(summary, keys, title, wide=True)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "d3"}):
        figure.savefig(path, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
