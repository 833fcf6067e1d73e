"""The loss terms of D³ in a CSV file."""

from __future__ import annotations

import csv
import io
import os
import weakref
from pathlib import Path

import torch
from torch import Tensor

from d3_plugin.checks import Count, checked
from d3_plugin.errors import InputError, StorageError, warn
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
        self._columns: list[str] = []  # of the file, once this run has written it
        self.held: list[tuple[int, dict[str, Tensor]]] = []
        try:
            path.open("ab").close()  # can it be written?
            self._rows()
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
        try:
            if {name for row in rows for name in row} <= {*self._columns}:
                self._append(_text(rows, self._columns))
            else:
                rows = [row for row in self._rows() if int(row["step"]) < self.held[0][0]] + rows
                columns = [*dict.fromkeys(name for row in rows for name in row)]
                header = dict(zip(columns, columns, strict=True))
                write_atomically(self._path, _text([header, *rows], columns))
                self._columns = columns
        except (OSError, ValueError) as error:  # ValueError: it is a log no longer
            warn(
                f"{self._path} lacks the steps from {self.held[0][0]} on ({error}); they are "
                "written as soon as there is room"
            )
        else:
            self.held.clear()

    def _rows(self) -> list[dict[str, str]]:
        """The rows of the file, without a last line that was cut off; ValueError if it is none."""
        text = self._path.read_text(encoding="utf-8")
        rows = [*csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))]
        if text and not (text.startswith("step,") and all(row["step"].isdigit() for row in rows)):
            raise ValueError("no log")
        return rows

    def _append(self, content: bytes) -> None:
        """Append all of it, or nothing if the disk is full."""
        size = self._path.stat().st_size
        try:
            with self._path.open("ab") as file:
                file.write(content)
        except OSError:
            os.truncate(self._path, size)
            raise


def _text(rows: list[dict[str, str]], columns: list[str]) -> bytes:
    text = io.StringIO()
    csv.DictWriter(text, columns).writerows(rows)
    return text.getvalue().encode()
