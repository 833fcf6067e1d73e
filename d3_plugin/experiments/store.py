"""Finished runs on disk: one file each, written whole or not at all."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from d3_plugin.distillation.settings import SCORING, D3Settings
from d3_plugin.errors import DataError, InputError, Problems
from d3_plugin.evaluation.metrics import GZSLMetrics
from d3_plugin.evaluation.protocol import Evaluation, rescored
from d3_plugin.experiments.files import check_writable, remove_stale, write_atomically
from d3_plugin.experiments.plan import Run, training_part
from d3_plugin.experiments.run import Outcome


class RunStore:
    """The folder ``OUT/runs`` of a comparison.

    Args:
        out: the comparison's folder.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out / "runs"

    def path(self, run: Run) -> Path:
        return self.folder / f"{run.name}.npz"

    def checkpoint(self, run: Run) -> Path:
        """Where a training under way is kept."""
        return self.folder / f"{run.name}.checkpoint.pt"

    def save(self, outcome: Outcome) -> None:
        """Write a finished run.

        Raises:
            StorageError: it cannot be written.
        """
        e = outcome.evaluation
        arrays: dict[str, Any] = {
            "scores": e.scores,
            "labels": e.labels,
            "seen_classes": outcome.seen_classes,
            "unseen_classes": outcome.unseen_classes,
        }
        for name in ("host_scores", "student_scores", "prior", "teacher_score"):
            if getattr(e, name) is not None:
                arrays[name] = getattr(e, name)
        facts = {
            "identity": outcome.run.identity(),
            "metrics": asdict(e.metrics),
            "teacher_auroc": e.teacher_auroc,
            "data_name": outcome.data_name,
            "history": outcome.history,
            "generator_start": outcome.generator_start,
            "generator_mean": outcome.generator_mean,
            "seconds": outcome.seconds,
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, facts=np.array(json.dumps(facts)), **arrays)
        write_atomically(self.path(outcome.run), buffer.getvalue())

    def prepare(self) -> None:
        """Make the folder, and remove from it what killed processes left half written.

        Raises:
            StorageError: the folder is not writable.
        """
        check_writable(self.folder)
        for folder in (self.folder, self.folder.parent):
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
        wanted = json.loads(json.dumps(run.identity()))
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
            facts = json.loads(str(arrays["facts"]))
            stored = dict(facts["identity"])
            outcome = _outcome(run, arrays, facts)
            same_training = training_part(stored) == run.training_identity()
        except Exception as error:  # a broken file makes zipfile, zlib and numpy raise anything
            raise DataError(
                f"{path} is damaged ({type(error).__name__}: {error}); delete it and start again, "
                "the other runs are kept"
            ) from error
        if stored == wanted:
            return outcome
        if run.d3 is not None and same_training:
            if run.d3.final_classifier == "host":
                return outcome
            if outcome.evaluation.student_scores is not None:
                return _scored_again(outcome, run.d3)
        if same_training:
            why = f"{_differences(stored, wanted)}, and has no student's scores to score again"
        else:
            why = _differences(training_part(stored), run.training_identity())
        raise InputError(
            f"{path} was made with other settings: {why}. Use another --out, or delete that file"
        )


def _outcome(run: Run, arrays: dict[str, Any], facts: dict[str, Any]) -> Outcome:
    evaluation = Evaluation(
        GZSLMetrics(**facts["metrics"]),
        arrays["scores"],
        arrays["labels"],
        arrays.get("host_scores"),
        arrays.get("prior"),
        arrays.get("teacher_score"),
        facts["teacher_auroc"],
        arrays.get("student_scores"),
    )
    return Outcome(
        run,
        evaluation,
        facts["data_name"],
        arrays["seen_classes"],
        arrays["unseen_classes"],
        facts["history"],
        facts["generator_start"],
        facts["generator_mean"],
        facts["seconds"],
    )


def _scored_again(outcome: Outcome, d3: D3Settings) -> Outcome:
    evaluation = rescored(
        outcome.evaluation,
        torch.from_numpy(outcome.seen_classes),
        torch.from_numpy(outcome.unseen_classes),
        **{name: getattr(d3, name) for name in SCORING},
    )
    return replace(outcome, evaluation=evaluation)


def _differences(stored: dict[str, Any], wanted: dict[str, Any]) -> str:
    lines = []
    for name in sorted(stored.keys() | wanted.keys()):
        old, new = stored.get(name), wanted.get(name)
        if isinstance(old, dict) and isinstance(new, dict) and old != new:
            lines.append(f"{name}: {_differences(old, new)}")
        elif old != new:
            lines.append(f"{name} was {old!r}, is now {new!r}")
    return "; ".join(lines)
