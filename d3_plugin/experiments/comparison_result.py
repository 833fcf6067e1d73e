"""What ``compare`` and ``ablate`` return."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d3_plugin.report.tables import aligned, table_rows
from d3_plugin.report.verdict import verdict


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` and :func:`ablate` give; all of it is on disk as well.

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
