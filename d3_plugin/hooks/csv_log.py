"""The loss terms of D³ in a CSV file."""

from __future__ import annotations

import csv
import weakref
from pathlib import Path

import torch
from torch import Tensor

from d3_plugin.errors import InputError
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
    """

    def __init__(self, path: str | Path, every: int = 50) -> None:
        self._path, self._every = Path(path), every
        self._names: list[str] = []  # the columns, once the file is begun or continued
        self._held: list[tuple[int, dict[str, Tensor]]] = []
        with self._path.open("a+", encoding="utf-8") as file:  # also: can it be written?
            file.seek(0)
            header = file.readline()
            if header and not header.startswith("step,"):
                raise InputError(f"{path} is not a log of D³: choose another path or delete it")
        weakref.finalize(self, _write, self._path, self._names, self._held)

    @hookimpl
    def d3_after_step(self, step: int, values: dict[str, Tensor]) -> None:
        self._held.append((step, values))
        if len(self._held) >= self._every:
            self.flush()

    def flush(self) -> None:
        """Write the steps that are still held."""
        _write(self._path, self._names, self._held)


def _write(path: Path, names: list[str], held: list[tuple[int, dict[str, Tensor]]]) -> None:
    steps, held[:] = held[:], []
    if not steps:
        return
    numbers = iter(torch.stack([v for _, values in steps for v in values.values()]).tolist())
    rows: list[dict[str, int | str]] = [
        {"step": step, **{n: f"{next(numbers):.7g}" for n in values}} for step, values in steps
    ]
    columns = dict.fromkeys([*names, *(name for row in rows for name in row)])
    mode = "a"
    if len(columns) > len(names):  # the first rows of this run, or a new name
        with path.open(newline="", encoding="utf-8") as file:
            old = [r for r in csv.DictReader(file) if int(r["step"]) < int(rows[0]["step"])]
        rows, mode = [*old, *rows], "w"
        names[:] = dict.fromkeys(name for row in rows for name in row)
    with path.open(mode, newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        if mode == "w":
            writer.writeheader()
        writer.writerows(rows)
