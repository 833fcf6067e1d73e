"""The run store: finished runs on disk, one file each, written whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from d3_plugin.data import GZSLData, digest
from d3_plugin.distillation.settings import SCORING
from d3_plugin.errors import DataError, InputError, Problems
from d3_plugin.evaluation.calibration import rescored
from d3_plugin.evaluation.metrics import GZSLMetrics
from d3_plugin.evaluation.result import Evaluation
from d3_plugin.experiments.plan import Run, training_part
from d3_plugin.experiments.recording import History, Projection
from d3_plugin.experiments.records import first_misfits
from d3_plugin.experiments.run import Outcome
from d3_plugin.files import remove_stale, write_atomically

_ARRAYS = {  # of d draws, n rows, c classes, s of them seen and u unseen; ids or finite numbers
    "scores": ("dnc", "f"),
    "labels": ("n", "i"),
    "seen_classes": ("s", "i"),
    "unseen_classes": ("u", "i"),
    "host_scores": ("dnc", "f"),
    "student_scores": ("nc", "f"),
    "prior": ("c", "f"),
    "teacher_score": ("n", "f"),
}
_ALWAYS = ("scores", "labels", "seen_classes", "unseen_classes")


class _Facts(TypedDict):
    """What the file of a run holds beside arrays; see :class:`.run.Outcome`."""

    identity: dict[str, Any]
    metrics: GZSLMetrics
    teacher_auroc: float | None
    classifier: str
    data_name: str
    class_names: list[str]
    history: History
    d3_history: History
    generator_start: float
    generator_mean: float
    projection: Projection | None
    seconds: float
    finished: str


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
        evaluation = outcome.evaluation
        facts = {
            "identity": outcome.run.identity(),
            "metrics": asdict(evaluation.metrics),
            "teacher_auroc": evaluation.teacher_auroc,
            "classifier": evaluation.classifier,
        }
        facts |= {k: v for k, v in vars(outcome).items() if k in _Facts.__annotations__}
        arrays = {name: vars(evaluation)[name] for name in _ARRAYS}
        arrays = {name: array for name, array in arrays.items() if array is not None}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, facts=np.array(json.dumps(facts)), **arrays)
        write_atomically(self.path(outcome.run), buffer.getvalue())

    def load_all(self, runs: Iterable[Run]) -> dict[str, Outcome]:
        """The finished ones of these runs, by name.

        Raises:
            InputError: the folder holds one of them with other settings.
            DataError: lists every damaged file.
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
        stored, outcome = _read(path, run)
        wanted = run.identity()
        if stored == wanted:
            return outcome
        different = _differences(training_part(stored), training_part(wanted))
        if not different and run.d3 is not None:
            if outcome.evaluation.student_scores is not None or run.d3.final_classifier == "host":
                return _rescored(outcome)
            different = f"{_differences(stored, wanted)}, and it has no scores of the student"
        raise InputError(
            f"{path} was made with other settings: {different}. Use another --out, or delete that "
            "file"
        )


def _read(path: Path, run: Run) -> tuple[dict[str, Any], Outcome]:
    """The identity in a file, and the outcome that it has if it is that of ``run``."""
    if not path.is_file():  # reading a FIFO would wait for ever
        raise DataError(f"{path} is not a file; remove it")
    arrays, name = {}, "it"
    try:
        with np.load(path, allow_pickle=False) as file:
            for name in file:
                arrays[name] = file[name]
        name = "facts"
        facts: Any = json.loads(str(arrays.pop("facts")))
    except Exception as error:  # a broken file makes zipfile, zlib and numpy raise anything
        problem = f"{name} cannot be read: {type(error).__name__}: {error}"
    else:
        problem = first_misfits(facts, _Facts) or "; ".join(_array_misfits(arrays))
        problem = problem or "; ".join(_contradictions(facts, arrays))
    if problem:
        raise DataError(
            f"{path} is damaged ({problem}); delete it and start again, the other runs are kept"
        )
    identity, metrics = facts.pop("identity"), GZSLMetrics(**facts.pop("metrics"))
    of_scores = {name: facts.pop(name) for name in ("teacher_auroc", "classifier")}
    return identity, Outcome(run, Evaluation(metrics, **arrays, **of_scores), **facts)


def _array_misfits(arrays: dict[str, Any]) -> Iterator[str]:
    """What is wrong with types, shapes and values of the arrays."""
    yield from (f"{name} is missing" for name in _ALWAYS if name not in arrays)
    yield from (f"there is no array {name!r}" for name in arrays.keys() - _ARRAYS.keys())
    sizes: dict[str, int] = {}
    for name, (letters, kind) in _ARRAYS.items():
        array = arrays.get(name)
        if array is None:
            continue
        if array.dtype.kind != kind or array.ndim != len(letters) or not array.size:
            yield f"{name} has shape {array.shape} and type {array.dtype}"
            continue
        expected = tuple(sizes.setdefault(d, n) for d, n in zip(letters, array.shape, strict=True))
        if array.shape != expected:
            yield f"{name} has shape {array.shape}, expected {expected}"
        elif not np.isfinite(array).all():
            yield f"{name} contains NaN or Inf"


def _contradictions(facts: dict[str, Any], arrays: dict[str, Any]) -> Iterator[str]:
    """Where values that have the right types cannot be true together."""
    classes = arrays["scores"].shape[2]
    seen, unseen = arrays["seen_classes"].tolist(), arrays["unseen_classes"].tolist()
    ids = {*seen, *unseen}
    if len(ids) < len(seen) + len(unseen) or not ids <= set(range(classes)):
        yield f"seen_classes, unseen_classes are not distinct ids below {classes}"
    if not set(arrays["labels"].tolist()) <= ids:
        yield "labels are not of the seen and unseen classes"
    if not (arrays.get("prior", np.zeros(1)) >= 0).all():
        yield "prior is below 0"
    if len(facts["class_names"]) != classes:
        yield f"class_names has {len(facts['class_names'])} names for {classes} classes"
    shares = {**facts["metrics"], "teacher_auroc": facts["teacher_auroc"] or 0.0}
    yield from (f"{k} is {v}" for k, v in shares.items() if not 0 <= v <= 1)
    if not 0 <= facts["seconds"] < np.inf:
        yield f"seconds is {facts['seconds']}"
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", facts["finished"]):
        yield f"finished is {facts['finished']!r}"
    for name in ("history", "d3_history"):
        if not all("step" in entry for entry in facts[name]):
            yield f"{name} has an entry without step"
    if (projection := facts["projection"]) is not None:
        drawn = projection["classes"]
        groups = projection["real"] + projection["synthetic"]
        pairs = all(len(pair) == 2 for rows in groups for pair in rows)
        if not set(drawn) <= ids or len(groups) != 2 * len(drawn) or not pairs:
            yield "projection is not of pairs of coordinates for each of its classes"


def _rescored(outcome: Outcome) -> Outcome:
    """With the weight and the offset of its run, which are not those it was made with."""
    d3 = outcome.run.d3
    if d3 is None or d3.final_classifier == "host":
        return outcome
    scoring = {name: getattr(d3, name) for name in SCORING}
    return replace(outcome, evaluation=rescored(outcome.evaluation, **scoring))


def _differences(stored: dict[str, Any], wanted: dict[str, Any]) -> str:
    lines = []
    for name in sorted(stored.keys() | wanted.keys()):
        old, new = stored.get(name, "absent"), wanted.get(name, "absent")
        if isinstance(old, dict) and isinstance(new, dict) and old != new:
            lines.append(f"{name}: {_differences(old, new)}")
        elif old != new:
            lines.append(f"{name} was {old}, is now {new}")
    return "; ".join(lines)


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
