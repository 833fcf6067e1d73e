"""Finished runs on disk: one file each, written whole or not at all."""

from __future__ import annotations

import io
import json
import os
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from d3_plugin.compare.execute import Outcome
from d3_plugin.compare.plan import Run
from d3_plugin.errors import DataError, InputError
from d3_plugin.evaluation.metrics import GZSLMetrics
from d3_plugin.evaluation.protocol import Evaluation


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class RunStore:
    """The folder ``OUT/runs`` of a comparison.

    Args:
        out: the comparison's folder.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out / "runs"

    def path(self, run: Run) -> Path:
        return self.folder / f"{run.name}.npz"

    def save(self, outcome: Outcome) -> None:
        e = outcome.evaluation
        arrays: dict[str, Any] = {
            "scores": e.scores,
            "labels": e.labels,
            "seen_classes": outcome.seen_classes,
            "unseen_classes": outcome.unseen_classes,
        }
        for name in ("host_scores", "prior", "teacher_score"):
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

    def load(self, run: Run) -> Outcome | None:
        """The finished run, or None if it has not been made yet.

        Raises:
            InputError: the folder holds this run with other settings.
            DataError: the file is damaged.
        """
        path = self.path(run)
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
            facts = json.loads(str(arrays.pop("facts")))
            evaluation = Evaluation(
                GZSLMetrics(**facts["metrics"]),
                arrays["scores"],
                arrays["labels"],
                arrays.get("host_scores"),
                arrays.get("prior"),
                arrays.get("teacher_score"),
                facts["teacher_auroc"],
            )
            identity = facts["identity"]
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise DataError(
                f"{path} is damaged ({type(error).__name__}: {error}); delete it and start again, "
                "the other runs are kept"
            ) from error
        wanted = json.loads(json.dumps(run.identity()))
        if identity != wanted:
            raise InputError(
                f"{path} was made with other settings: {_differences(identity, wanted)}. Use "
                "another --out, or delete that folder"
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


def _differences(stored: dict[str, Any], wanted: dict[str, Any]) -> str:
    lines = []
    for name in sorted(stored.keys() | wanted.keys()):
        old, new = stored.get(name), wanted.get(name)
        if isinstance(old, dict) and isinstance(new, dict) and old != new:
            lines.append(f"{name}: {_differences(old, new)}")
        elif old != new:
            lines.append(f"{name} was {old!r}, is now {new!r}")
    return "; ".join(lines)
