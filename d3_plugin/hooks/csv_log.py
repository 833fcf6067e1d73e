"""The loss terms of D³ in a CSV file."""

from __future__ import annotations

import csv
import io
import os
import warnings
import weakref
from pathlib import Path

import torch
from torch import Tensor

from d3_plugin.checks import Count, checked
from d3_plugin.errors import D3Warning, InputError, StorageError
from d3_plugin.files import write_atomically
from d3_plugin.hooks.specs import hookimpl


class CSVLog:
    """Writes the terms of every step to a CSV file: ``attach(..., plugins=[CSVLog("d3.csv")])``.

    One row per step and one column per name in :attr:`d3_plugin.D3.values`; a name that comes up
    later gets a column then. A resumed run continues the file: rows of steps that it makes again
    are replaced. With several processes, pass it in the first one only.

    Args:
        path: of the file, in a folder that exists.
        every: steps between two writes. In between, the values stay on their device, so that a GPU
            does not wait for them. What is left is written by :meth:`flush`, and when the program
            ends.

    Raises:
        InputError: the file exists and is no such log.
        StorageError: the file cannot be read or written.

    Warns:
        D3Warning: steps cannot be written, because the disk is full; the training goes on, and
            they are written with later ones.
    """

    @checked
    def __init__(self, path: str | Path, every: Count = 50) -> None:
        self._file, self._every = _LogFile(Path(path)), every
        weakref.finalize(self, self._file.write)

    @hookimpl
    def d3_after_step(self, step: int, values: dict[str, Tensor]) -> None:
        self._file.held.append((step, values))
        if step % self._every == 0:
            self.flush()

    def flush(self) -> None:
        """Write the steps that are still held."""
        self._file.write()


class _LogFile:
    """The file, and the steps that are not in it yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._columns: list[str] = []  # once a row of this run is written
        self.held: list[tuple[int, dict[str, Tensor]]] = []
        try:
            path.open("ab").close()  # can it be written?
            self._rows_before = _rows(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from error
        except ValueError as error:
            raise InputError(
                f"{path} is not a log of D³: choose another path or delete it"
            ) from error

    def write(self) -> None:
        """Append the steps held; with a new column, or at first, write the file anew."""
        if not self.held:
            return
        values = iter(torch.stack([v for _, row in self.held for v in row.values()]).tolist())
        rows = [{"step": f"{s}", **{n: f"{next(values):.7g}" for n in row}} for s, row in self.held]
        columns = [*dict.fromkeys([*self._columns, *(name for row in rows for name in row)])]
        try:
            if columns == self._columns:
                _append(self._path, _text(rows, columns, header=False))
            else:
                first = self.held[0][0]
                before = self._rows_before or _rows(self._path.read_text(encoding="utf-8"))
                before = [row for row in before if int(row["step"]) < first]
                columns = [*dict.fromkeys(name for row in [*before, *rows] for name in row)]
                write_atomically(self._path, _text([*before, *rows], columns, header=True))
        except OSError as error:
            warnings.warn(
                f"{self._path} lacks the steps from {self.held[0][0]} on ({error}); they are "
                "written as soon as there is room",
                D3Warning,
                stacklevel=2,
            )
            return
        self._columns, self._rows_before = columns, []
        self.held.clear()


def _rows(text: str) -> list[dict[str, str]]:
    """The rows of a log; ValueError if it is none. A last line that was cut off is left out."""
    rows = [*csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))]
    if text and not (text.startswith("step,") and all(row["step"].isdigit() for row in rows)):
        raise ValueError("no log")
    return rows


def _text(rows: list[dict[str, str]], columns: list[str], *, header: bool) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _append(path: Path, content: bytes) -> None:
    """Append all of it, or nothing if the disk is full."""
    size = path.stat().st_size
    try:
        with path.open("ab") as file:
            file.write(content)
    except OSError:
        os.truncate(path, size)
        raise
