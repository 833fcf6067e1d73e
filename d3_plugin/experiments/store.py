"""The run store: finished runs on disk, one file each, written whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from d3_plugin.distillation.settings import SCORING
from d3_plugin.errors import DataError, InputError, Problems
from d3_plugin.evaluation.calibration import rescored
from d3_plugin.evaluation.metrics import GZSLMetrics
from d3_plugin.evaluation.result import Evaluation
from d3_plugin.experiments.plan import Run, training_part
from d3_plugin.experiments.run import Outcome
from d3_plugin.files import remove_stale, write_atomically

_CLASSES = ("seen_classes", "unseen_classes")
_NUMBERS = ("generator_start", "generator_mean", "seconds")
# Files of earlier versions lack these.
_LATER = ("d3_history", "class_names", "projection", "finished")
_AXES = {  # of d draws, n rows and c classes
    "scores": "dnc",
    "labels": "n",
    "host_scores": "dnc",
    "student_scores": "nc",
    "prior": "c",
    "teacher_score": "n",
}


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
        others = "".join(run.name for run in runs[1:]).encode()
        more = f"+{hashlib.sha256(others).hexdigest()[:10]}" if others else ""
        return self.folder / f"{runs[0].name}{more}.checkpoint.pt"

    def remove_checkpoints(self, run: Run) -> None:
        """Remove the checkpoints of trainings that were to begin with this finished run."""
        for file in [self.checkpoint([run]), *self.folder.glob(f"{run.name}+*.checkpoint.pt")]:
            file.unlink(missing_ok=True)

    def save(self, outcome: Outcome) -> None:
        """Write a finished run.

        Raises:
            StorageError: it cannot be written.
        """
        evaluation = outcome.evaluation
        arrays = {name: getattr(evaluation, name) for name in (*_CLASSES, *_AXES)}
        arrays = {name: array for name, array in arrays.items() if array is not None}
        recorded = ("data_name", "history", *_NUMBERS, *_LATER)
        facts = {
            "identity": outcome.run.identity(),
            "metrics": asdict(evaluation.metrics),
            "teacher_auroc": evaluation.teacher_auroc,
            **{name: getattr(outcome, name) for name in recorded},
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, facts=np.array(json.dumps(facts)), **arrays)
        write_atomically(self.path(outcome.run), buffer.getvalue())

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

    def load_all(self, runs: Iterable[Run]) -> dict[str, Outcome]:
        """The finished ones of these runs, by name.

        Raises:
            InputError: the folder holds one of them with other settings.
            DataError: files are damaged; lists all.
        """
        finished: dict[str, Outcome] = {}
        problems = Problems(f"finished runs in {self.folder}")
        for run in runs:
            try:
                outcome = self.load(run)
            except DataError as error:
                problems.add(str(error))
                continue
            if outcome is not None:
                finished[run.name] = outcome
        problems.raise_as(DataError)
        return finished

    def load(self, run: Run) -> Outcome | None:
        """The finished run, or None if it has not been made yet.

        Where only settings differ that training does not depend on
        (:data:`~d3_plugin.distillation.settings.SCORING`), it is scored again with those of
        ``run``.

        Raises:
            InputError: the folder holds this run with other settings.
            DataError: the file is damaged.
        """
        path = self.path(run)
        if not path.exists():
            return None
        if not path.is_file():  # reading a FIFO would wait for ever
            raise DataError(f"{path} is not a file; remove it")
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
            facts = json.loads(str(arrays["facts"]))
            stored, trained = facts["identity"], training_part(facts["identity"])
            outcome = _outcome(run, arrays, facts)
        except Exception as error:  # a broken file makes zipfile, zlib and numpy raise anything
            raise DataError(
                f"{path} is damaged ({type(error).__name__}: {error}); delete it and start again, "
                "the other runs are kept"
            ) from error
        if stored == run.identity():
            return outcome
        why = _differences(trained, run.training_identity())
        if not why and run.d3 is not None:
            if run.d3.final_classifier == "host":
                return outcome
            if outcome.evaluation.student_scores is not None:
                scoring = {name: getattr(run.d3, name) for name in SCORING}
                return replace(outcome, evaluation=rescored(outcome.evaluation, **scoring))
            why = f"{_differences(stored, run.identity())}, and it has no scores of the student"
        raise InputError(
            f"{path} was made with other settings: {why}. Use another --out, or delete that file"
        )


def _outcome(run: Run, arrays: dict[str, Any], facts: dict[str, Any]) -> Outcome:
    """The outcome in a file; any exception where types or shapes are not those of an outcome."""
    sizes = dict(zip("dnc", arrays["scores"].shape, strict=True))
    found = {name: arrays[name] for name in _AXES if name in arrays}
    odd = [
        name
        for name, array in found.items()
        if array.dtype.kind not in "if" or array.shape != tuple(sizes[x] for x in _AXES[name])
    ]
    ids, labels = np.concatenate([arrays[name] for name in _CLASSES]), arrays["labels"]
    if odd or ids.dtype.kind != "i" or not set(labels) <= set(ids) <= set(range(sizes["c"])):
        raise ValueError(f"{', '.join(odd) or 'labels or classes'} do not fit the scores")
    for entry in [*facts["history"], *facts.get("d3_history", [])]:
        [float(value) for value in entry.values()]
    found |= {name: arrays[name] for name in _CLASSES}
    metrics = GZSLMetrics(**{name: float(value) for name, value in facts["metrics"].items()})
    auroc = facts["teacher_auroc"]
    evaluation = Evaluation(metrics, teacher_auroc=None if auroc is None else float(auroc), **found)
    named: dict[str, Any] = {name: float(facts[name]) for name in _NUMBERS}
    named |= {name: facts[name] for name in _LATER if name in facts}
    return Outcome(run, evaluation, facts["data_name"], history=facts["history"], **named)


def _differences(stored: dict[str, Any], wanted: dict[str, Any]) -> str:
    lines = []
    for name in sorted(stored.keys() | wanted.keys()):
        old, new = stored.get(name, "the default"), wanted.get(name, "the default")
        if isinstance(old, dict) and isinstance(new, dict) and old != new:
            lines.append(f"{name}: {_differences(old, new)}")
        elif old != new:
            lines.append(f"{name} was {old}, is now {new}")
    return "; ".join(lines)
