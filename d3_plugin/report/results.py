"""The content of ``results.json``: made from finished runs, written, read back, and shown."""

from __future__ import annotations

import html
import json
import platform
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from d3_plugin import __version__
from d3_plugin.errors import InputError, Problems
from d3_plugin.files import write_atomically
from d3_plugin.report.details import details
from d3_plugin.report.rows import FinishedRun, History, Row
from d3_plugin.report.statistics import score, summarize
from d3_plugin.report.tables import aligned, table_rows
from d3_plugin.report.verdict import verdict

VERSION = 2
"""Of the format that ``results.schema.json`` describes."""

_LARGEST = 1e30  # the schema's; a loss beyond it has diverged


def results(
    settings: Mapping[str, Any],
    runs: Sequence[FinishedRun],
    rows: Collection[Row],
    chosen_on: Mapping[int, Collection[int]],
    *,
    command: str,
    notes: str = "",
    digests: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The content of ``results.json``; ``results.schema.json`` says what everything is.

    Args:
        settings: of the comparison, as JSON types.
        runs: all that the rows need.
        rows: of the table, in its order.
        chosen_on: for each seed the seeds of the validation runs that tuned rows choose on.
        command: that gives these results.
        notes: how to read the table.
        digests: of the data and of the code, by name.
    """
    summaries, of_tests = {}, {}
    for adapter in dict.fromkeys(run.adapter for run in runs):
        of_adapter = [run for run in runs if run.adapter == adapter]
        scored = {
            row.key: [score(of_adapter, row, seed, cuts) for seed, cuts in chosen_on.items()]
            for row in rows
        }
        summaries[adapter], of_tests[adapter] = summarize(scored, rows), details(scored)
    ordered = sorted(runs, key=lambda run: (run.adapter, run.seed, run.split, run.variant))
    return {
        "version": VERSION,
        "command": command,
        "finished": max(run.record.finished for run in runs),
        "notes": notes,
        "settings": settings,
        "versions": {
            "d3_plugin": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "scikit-learn": version("scikit-learn"),
            "python": platform.python_version(),
        },
        "digests": digests or {},
        "summary": summaries,
        "details": of_tests,
        "runs": [_facts(run) for run in ordered],
    }


def _facts(run: FinishedRun) -> dict[str, Any]:
    evaluation, record = run.evaluation, run.record
    return {
        "adapter": run.adapter,
        "seed": run.seed,
        "split": run.split,
        "variant": run.variant,
        "data": record.data_name,
        "metrics": asdict(evaluation.metrics),
        "teacher_auroc": evaluation.teacher_auroc,
        "generator_start": _finite(record.generator_start),
        "generator_mean": _finite(record.generator_mean),
        "seconds": round(record.seconds, 2),
        "finished": record.finished,
        "history": _rounded(record.history),
        "d3_history": _rounded(record.d3_history),
    }


def _rounded(history: History) -> list[dict[str, float | None]]:
    return [
        {k: v if k == "step" else _finite(float(f"{v:.5g}")) for k, v in entry.items()}
        for entry in history
    ]


def _finite(value: float) -> float | None:
    """None for what JSON does not have."""
    return value if abs(value) <= _LARGEST else None


def write_results(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``results.json`` or ``ablation.json``; returns what :func:`read_results` would.

    Raises:
        InputError: the content does not follow the schema; a file that was there is unchanged.
        StorageError: it cannot be written.
    """
    text = json.dumps(content, indent=1)
    parsed = _parsed(path, text)
    write_atomically(path, text.encode())
    return parsed


def read_results(path: Path) -> dict[str, Any]:
    """The content of a file that :func:`write_results` wrote.

    Raises:
        InputError: it cannot be read, is of another version, or does not follow the schema; names
            the fields.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    return _parsed(path, text)


def _parsed(path: Path, text: str) -> dict[str, Any]:
    from jsonschema import Draft202012Validator

    problems = Problems(f"{path} is not of a finished comparison")
    try:
        content: Any = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{problems.subject}: {error}") from error
    found = content.get("version") if isinstance(content, dict) else None
    if isinstance(found, int) and found != VERSION:
        raise InputError(
            f"{path} has version {found}, this d3_plugin knows {VERSION}: give the command that "
            "made it again, with the same --out; finished runs are not made again"
        )
    schema = json.loads(Path(__file__).with_name("results.schema.json").read_text("utf-8"))
    for wrong in Draft202012Validator(schema).iter_errors(content):
        problems.add(f"{wrong.json_path}: {wrong.message[:300]}")
    if not problems.found:
        _check_what_fits_together(content, problems)
    problems.raise_as(InputError)
    return dict(content)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number in JSON")


def _check_what_fits_together(content: dict[str, Any], problems: Problems) -> None:
    """Seeds, adapters, rows and lengths of lists, which a schema cannot compare."""
    seeds, runs = content["settings"]["seeds"], content["runs"]
    known = {(run["adapter"], run["variant"]) for run in runs if run["split"] == "test"}
    for adapter, summary in content["summary"].items():
        problems.check(
            {(adapter, "baseline"), (adapter, "d3")} <= known, f"$.runs: none of {adapter}"
        )
        for key, row in summary.items():
            at = f"$.summary.{adapter}.{key}"
            problems.check(len(row["curves"]) in (0, seeds), f"{at}.curves: not of {seeds} seeds")
            beside = row.get("beside", "d3")
            problems.check(beside in summary, f"{at}.beside: no row {beside!r} in the summary")
            for metric, values in row["metrics"].items():
                lengths = {len(values["per_seed"]), len(values.get("per_draw", range(seeds)))}
                problems.check(lengths == {seeds}, f"{at}.metrics.{metric}: not of {seeds} seeds")
    for adapter, of_tests in content["details"].items():
        at = f"$.details.{adapter}"
        summary = content["summary"].get(adapter, {})
        problems.check(of_tests["row"] in summary, f"{at}.row: no such row of the summary")
        if teacher := of_tests["teacher"]:
            lengths = {len(teacher["edges"]) - 1, len(teacher["seen"]), len(teacher["unseen"])}
            problems.check(len(lengths) == 1, f"{at}.teacher: as many bars as edges, less one")
        if projection := of_tests["projection"]:
            of_classes = [projection["classes"], projection["real"]]
            of_classes += projection["synthetic"].values()
            lengths = {len(each) for each in of_classes}
            problems.check(len(lengths) == 1, f"{at}.projection: not all of the same classes")


def runs_by_variant(content: Mapping[str, Any], adapter: str) -> dict[str, list[dict[str, Any]]]:
    """Test runs of one adapter in ``results.json``, by variant."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in content["runs"]:
        if (run["adapter"], run["split"]) == (adapter, "test"):
            found.setdefault(run["variant"], []).append(run)
    return found


@dataclass(frozen=True)
class Comparison:
    """What ``compare`` and ``ablate`` give; all of it is on disk as well.

    Attributes:
        content: of the JSON file, see ``results.schema.json``.
        file: its path.
        page: path of the report.
        passed: the conditions of ``fail_if``, if none of them holds.
    """

    content: dict[str, Any]
    file: Path
    page: Path
    passed: tuple[str, ...] = ()

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """For each adapter the rows of its table by key: ``title``, and ``metrics`` by name.

        A metric has ``mean``, ``half_width``, ``per_seed``, and its ``difference`` to the baseline.
        """
        summary: dict[str, dict[str, Any]] = self.content["summary"]
        return summary

    @property
    def verdicts(self) -> dict[str, str]:
        """For each adapter, in one sentence, what D³ changes."""
        return {adapter: verdict(adapter, rows) for adapter, rows in self.rows.items()}

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return int(self.content["settings"]["seeds"])

    def to_dict(self) -> dict[str, Any]:
        """:attr:`rows`, as JSON types."""
        return self.rows

    def __repr__(self) -> str:
        tables = "\n\n".join(
            f"{caption}\n{aligned(table_rows(rows))}" for caption, rows in self._captioned()
        )
        closing = f"passed: none of --fail-if {'; '.join(self.passed)}\n" if self.passed else ""
        said = "\n".join(self.verdicts.values())
        notes = self.content["notes"]
        return f"{tables}\n\n{notes}\n\n{said}\n{closing}\n{self.page}\n{self.file}"

    def _repr_html_(self) -> str:
        """The tables, for notebooks."""
        tables = []
        for caption, rows in self._captioned():
            lines = (
                "".join(f"<td>{html.escape(cell)}</td>" for cell in line)
                for line in table_rows(rows)
            )
            body = "".join(f"<tr>{line}</tr>" for line in lines)
            tables.append(f"<table><caption>{html.escape(caption)}</caption>{body}</table>")
        return "".join(tables) + "".join(f"<p>{html.escape(v)}</p>" for v in self.verdicts.values())

    def _captioned(self) -> Iterator[tuple[str, dict[str, Any]]]:
        data, counted = self.content["settings"]["data"], f"{self.seeds} seed"
        for adapter, rows in self.rows.items():
            yield f"{adapter} on {data}, {counted}{'s' * (self.seeds != 1)}", rows
