"""The run store: finished runs on disk, one file each, written whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from d3_plugin.data import GZSLData, digest
from d3_plugin.distillation.settings import SCORING
from d3_plugin.errors import DataError, InputError, Problems, StorageError
from d3_plugin.evaluation.calibration import rescored
from d3_plugin.experiments.run import Outcome
from d3_plugin.experiments.run_file import read, written
from d3_plugin.experiments.run_identity import Run, checkpoint_name, differences, training_part
from d3_plugin.files import remove_stale, write_atomically


class RunStore:
    """The folder ``OUT/runs`` of a comparison.

    Args:
        out: the comparison's folder.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out / "runs"

    def path(self, run: Run) -> Path:
        return self.folder / f"{run.name}.npz"

    def checkpoint(self, runs: Sequence[Run]) -> Path:
        """File for the checkpoint of an unfinished training of these runs."""
        return self.folder / checkpoint_name(runs)

    def remove_checkpoints(self, run: Run) -> None:
        """Remove the checkpoints of trainings whose first run is this finished one."""
        for file in self._checkpoints(run):
            file.unlink(missing_ok=True)

    def _checkpoints(self, run: Run) -> Iterator[Path]:
        """Of trainings whose first run it is, with any settings."""
        return self.folder.glob(f"{run.name}+*.checkpoint.pt")

    def prepare(self) -> None:
        """Make the folder, and remove what killed processes have left half written.

        Raises:
            StorageError: it, or the one above, is not writable.
        """
        for folder in (self.folder, self.folder.parent):
            probe = folder / ".probe"
            write_atomically(probe, b"d3")
            probe.unlink(missing_ok=True)  # another command may be here as well
            remove_stale(folder)

    def save(self, outcome: Outcome) -> None:
        """Write a finished run.

        Raises:
            StorageError: it cannot be written.
        """
        write_atomically(self.path(outcome.run), written(outcome))

    def load_all(self, runs: Iterable[Run], *, rerun: bool = False) -> dict[str, Outcome]:
        """The finished ones of these runs, by name.

        Where only settings differ that training does not depend on
        (:data:`~d3_plugin.distillation.settings.SCORING`), a run is scored again with those of the
        wanted one.

        Args:
            runs: wanted.
            rerun: move files of runs with other code or settings into ``runs/aside-DATE``.

        Raises:
            InputError: without ``rerun``, the folder holds some of them with other code or other
                settings; says what has changed.
            DataError: lists every damaged file.
            StorageError: a file cannot be moved.
        """
        finished: dict[str, Outcome] = {}
        changed: list[tuple[Run, list[str]]] = []
        problems = Problems(f"finished runs in {self.folder}")
        for run in runs:
            try:
                outcome, changes = self._compared(run)
            except DataError as error:
                problems.add(str(error))
                continue
            if changes:
                changed.append((run, changes))
            elif outcome is not None:
                finished[run.name] = outcome
        problems.raise_as(DataError)
        if changed and not rerun:
            paths = [str(self.path(run)) for run, _ in changed]
            changes = list(dict.fromkeys(each for _, of_run in changed for each in of_run))
            raise InputError(
                f"{len(paths)} finished run{'s' * (len(paths) > 1)} ({_first(paths, 3)}), made "
                f"with other code or settings: {_first(changes, 5)}; use another --out, or "
                f"--rerun, which moves the old files into {self.folder}/aside-DATE"
            )
        self._set_aside(
            file for run, _ in changed for file in (self.path(run), *self._checkpoints(run))
        )
        return finished

    def load(self, run: Run) -> Outcome | None:
        """The finished run, or None if it has not been made yet; raises as :meth:`load_all`."""
        return self.load_all([run]).get(run.name)

    def _compared(self, run: Run) -> tuple[Outcome | None, list[str]]:
        """The finished run, if there is one, and what differs from the one that is wanted."""
        path = self.path(run)
        if not path.exists():
            return None, []
        stored, outcome = read(path, run)
        stored, wanted = run.completed(stored), run.identity()
        if stored == wanted:
            return outcome, []
        if different := differences(training_part(stored), training_part(wanted)):
            return None, different
        if run.d3 is not None and run.d3.final_classifier == "host":
            return outcome, []
        if run.d3 is not None and outcome.evaluation.student_scores is not None:
            scoring = {name: getattr(run.d3, name) for name in SCORING}
            return replace(outcome, evaluation=rescored(outcome.evaluation, **scoring)), []
        return None, [*differences(stored, wanted), "and it has no scores of the student"]

    def _set_aside(self, files: Iterable[Path]) -> None:
        there = [file for file in files if file.exists()]
        if not there:
            return
        date = datetime.now().isoformat(timespec="microseconds").replace(":", "-")
        folder = self.folder / f"aside-{date}"
        try:
            folder.mkdir()
            for file in there:
                file.rename(folder / file.name)
        except OSError as error:
            raise StorageError(f"cannot move old runs into {folder}: {error}") from error


def _first(texts: Sequence[str], number: int) -> str:
    more = f" and {len(texts) - number} more" if len(texts) > number else ""
    return f"{', '.join(texts[:number])}{more}"


def store_data(data: GZSLData, out: Path) -> str:
    """The folder in ``out`` that these data are written to, or were by an earlier command."""
    folder = out / "data" / (re.sub(r"[^\w-]+", "-", data.name) or "data")
    new = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        data.save(new)
        made = digest(str(new))
        with suppress(OSError):  # there is one, of an earlier command
            new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    if digest(str(folder)) != made:
        raise InputError(f"{folder} does not hold these data; use another out, or data.name")
    return str(folder)
