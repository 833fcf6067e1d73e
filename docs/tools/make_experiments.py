"""Writes the tables of docs/experiments.md from finished runs of hypotheses.py.

    python docs/tools/make_experiments.py runs/hypotheses runs/confirmed

What is needed of the runs is kept in docs/experiments; without folders the page is written from
these files alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from d3_plugin.report.statistics import interval
from d3_plugin.report.tables import aligned, cell

HOSTS, DATA = ("fclswgan", "diffusion", "tfvaegan"), ("cub50", "cub127", "flo64")
PLANNED = 27  # pairs for each host: data sets x 3 cuts x 3 seeds
BESIDE = (
    ("ref", "host"),
    ("default", "ref"),
    ("graded", "ref"),
    ("semantic", "ref"),
    ("narrow", "default"),
    ("sparse", "default"),
    ("plain", "ref"),
    ("start", "ref"),
    ("whole", "ref"),
    ("whole", "default"),
    ("half", "whole"),
    ("half", "host"),
)
"""Students, and what each is set beside."""
SHARES = {"share3": 0.03, "share30": 0.3, "scores": 0.1, "graded": 0.1}
"""Generators, and D³'s share of their gradient."""
JUDGED = ("pairs", "mean over cuts", "verdict")
FILES = Path(__file__).parents[1] / "experiments"
MARKS = "<!-- results -->", "<!-- /results -->"

Runs = list[dict[str, Any]]
Place = tuple[str, str, int, int]
"""Host, data, cut and seed: what a pair of runs has in common."""
Differences = dict[Place, float]
"""In AUSUC."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, help="--out of hypotheses.py")
    options = parser.parse_args()
    if options.runs:
        keep(options.runs)
    page = FILES.with_suffix(".md")
    page.write_text(filled(page.read_text(encoding="utf-8"), kept()), encoding="utf-8")


def keep(folders: list[Path]) -> None:
    """Copy finished runs into the repository, one file for each host."""
    files = [file for folder in folders for file in sorted(folder.glob("*.json"))]
    found = [json.loads(file.read_text()) for file in files]
    for host in HOSTS:
        lines = [json.dumps(run) for run in found if run["host"] == host]
        if lines:
            text = "[\n" + ",\n".join(lines) + "\n]\n"
            (FILES / f"{host}.json").write_text(text, encoding="utf-8")


def kept() -> Runs:
    """The runs in the repository."""
    return [run for file in sorted(FILES.glob("*.json")) for run in json.loads(file.read_text())]


def filled(page: str, runs: Runs) -> str:
    """The page with the tables of these runs between its marks."""
    before, rest = page.split(MARKS[0])
    return f"{before}{MARKS[0]}\n{report(runs)}\n{MARKS[1]}{rest.split(MARKS[1])[1]}"


def report(runs: Runs) -> str:
    """The results as Markdown."""
    confirming = [run for run in runs if run.get("full")]
    confirmed = list(product(HOSTS, DATA))
    runs = [run for run in runs if not run.get("full")]
    hosts = [host for host in HOSTS if any(run["host"] == host for run in runs)]
    columns = list(product(hosts, DATA))
    titles = [f"{host}, {data}" for host, data in columns]
    generators = [["generator", *titles, *JUDGED]]
    by_host = [["by host", *hosts, "share wanted", "median share"]]
    for name, wanted in SHARES.items():
        made = differences(runs, name)
        generators.append([f"`{name}`", *judged_row(name, made, columns)])
        apart = [{key: v for key, v in made.items() if key[0] == host} for host in hosts]
        shown = [cell(over_cuts(each), signed=True) if each else "" for each in apart]
        shares = [run["share"] for run in runs if run["training"] == name]
        share = f"{statistics.median(shares):.0%}" if shares else ""
        by_host.append([f"`{name}`", *shown, f"{wanted:.0%}", share])
    levels = [["mean AUSUC", *titles]]
    students = list(dict(BESIDE))
    for name in ("host", *students, *(f"{name} alone" for name in students)):
        means = [level(runs, name, column) for column in columns]
        levels += [[name, *means]] if any(means) else []
    number = Counter(run["training"] for run in runs)
    finished = ", ".join(f"`{name}` {number[name]}" for name in ("students", *SHARES))
    hours = sum(run["seconds"] for run in runs) / 3600
    return "\n\n".join(
        [
            f"Finished trainings: {finished}, of 27 each per host; {hours:.1f} hours on one busy "
            "core. A verdict in brackets is that of a part of the pairs.",
            "Students: the host's classifier and half of the student, minus the same with the one "
            "beside it, or minus the host's classifier.",
            students_table(runs, columns),
            "Generators: the host's classifier alone, minus that of the baseline.",
            aligned(generators),
            aligned(by_host),
            "The level: *host* is its classifier alone, a student's name the sum of both.",
            aligned(levels),
            "At the default number of steps, three draws, the cut as seed:" if confirming else "",
            students_table(confirming, confirmed, pairs=9) if confirming else "",
        ]
    ).rstrip()


def students_table(runs: Runs, columns: list[tuple[str, str]], pairs: int = PLANNED) -> str:
    titles = [f"{host}, {data}" for host, data in columns]
    rows = [["student", "beside", *titles, *JUDGED]]
    for name, other in BESIDE:
        if made := differences(runs, "students", name, other):
            rows.append([f"`{name}`", f"`{other}`", *judged_row(name, made, columns, pairs)])
    return aligned(rows)


def differences(runs: Runs, training: str, name: str = "host", other: str = "host") -> Differences:
    """Of ``name`` in this training to ``other`` in that of the students, in which the generator is
    left alone; same host, data, cut and seed."""
    beside = {
        place(run): run["scores"][other]
        for run in runs
        if run["training"] == "students" and other in run["scores"]
    }
    found = {}
    for run in runs:
        if run["training"] == training and name in run["scores"] and place(run) in beside:
            difference = run["scores"][name]["ausuc"] - beside[place(run)]["ausuc"]
            found[place(run)] = difference
    return found


def place(run: dict[str, Any]) -> Place:
    return run["host"], run["data"], run["cut"], run["seed"]


def judged_row(
    name: str, made: Differences, columns: list[tuple[str, str]], pairs: int = PLANNED
) -> list[str]:
    """Means of the columns, number of pairs, the interval over cuts, and the verdict."""
    if not made:
        return [""] * (len(columns) + 3)
    means = means_by(made, lambda key: key[:2])
    shown = [f"{100 * means[column]:+.1f}" if column in means else "" for column in columns]
    expected = {host for host, _ in columns} if name != "sparse" else {"fclswgan"}
    planned = pairs * len({key[0] for key in made} | expected)
    text = verdict(name, made)
    text = text if len(made) == planned else f"({text})"
    return [*shown, f"{len(made)} of {planned}", cell(over_cuts(made), signed=True), text]


def verdict(name: str, made: Differences) -> str:
    """By the rule of the page."""
    whole = over_cuts(made)
    mean, half_width = whole["mean"] or 0.0, whole["half_width"]
    if half_width is None:
        return "open"
    if name in ("narrow", "sparse", "half"):
        loses = min(means_by(made, lambda key: key[1]).values()) < -0.002
        return "leave" if loses or mean + half_width < 0 else "adopt"
    loses = min(means_by(made, lambda key: key[:2]).values()) < -0.003
    return "fails" if loses or mean - half_width <= 0 else "passes"


def over_cuts(made: Differences) -> dict[str, float | None]:
    """Mean and interval over the cuts of all data sets; hosts and seeds are averaged first."""
    return interval(means_by(made, lambda key: key[1:3]).values())


def means_by(made: Differences, by: Callable[[Any], Any]) -> dict[Any, float]:
    """Means of the values with the same part of the key."""
    found = defaultdict(list)
    for key, value in made.items():
        found[by(key)].append(value)
    return {key: float(np.mean(values)) for key, values in found.items()}


def level(runs: Runs, name: str, column: tuple[str, str]) -> str:
    """Mean AUSUC over cuts and seeds; empty where a training lacks this student."""
    found = [
        run["scores"].get(name, {"ausuc": np.nan})["ausuc"]
        for run in runs
        if run["training"] == "students" and place(run)[:2] == column
    ]
    mean = np.mean(found) if found else np.nan
    return "" if np.isnan(mean) else f"{100 * mean:.1f}"


if __name__ == "__main__":
    main()
