"""The file of a finished run: scores, facts, and what must be true of them."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from d3_plugin.errors import DataError
from d3_plugin.evaluation.metrics import GZSLMetrics
from d3_plugin.evaluation.result import Evaluation
from d3_plugin.experiments.plan import Run
from d3_plugin.experiments.records import first_misfits
from d3_plugin.experiments.run import Outcome
from d3_plugin.report.rows import Record

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
    """What the file of a run holds beside arrays."""

    identity: dict[str, Any]
    metrics: GZSLMetrics
    teacher_auroc: float | None
    classifier: str
    record: Record


def written(outcome: Outcome) -> bytes:
    """The content of the file."""
    evaluation = outcome.evaluation
    facts = {
        "identity": outcome.run.identity(),
        "metrics": asdict(evaluation.metrics),
        "teacher_auroc": evaluation.teacher_auroc,
        "classifier": evaluation.classifier,
        "record": vars(outcome.record),
    }
    arrays = {name: vars(evaluation)[name] for name in _ARRAYS}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, facts=np.array(json.dumps(facts)), **arrays)
    return buffer.getvalue()


def read(path: Path, run: Run) -> tuple[dict[str, Any], Outcome]:
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
    of_scores = {name: facts[name] for name in ("teacher_auroc", "classifier")}
    evaluation = Evaluation(GZSLMetrics(**facts["metrics"]), **arrays, **of_scores)
    return facts["identity"], Outcome(run, evaluation, Record(**facts["record"]))


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
    record = facts["record"]
    if len(record["class_names"]) != classes:
        yield f"class_names has {len(record['class_names'])} names for {classes} classes"
    shares = {**facts["metrics"], "teacher_auroc": facts["teacher_auroc"] or 0.0}
    yield from (f"{k} is {v}" for k, v in shares.items() if not 0 <= v <= 1)
    if not 0 <= record["seconds"] < np.inf:
        yield f"seconds is {record['seconds']}"
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["finished"]):
        yield f"finished is {record['finished']!r}"
    for name in ("history", "d3_history"):
        if not all("step" in entry for entry in facts[name]):
            yield f"{name} has an entry without step"
    if (projection := facts["projection"]) is not None:
        drawn = projection["classes"]
        groups = projection["real"] + projection["synthetic"]
        pairs = all(len(pair) == 2 for rows in groups for pair in rows)
        if not set(drawn) <= ids or len(groups) != 2 * len(drawn) or not pairs:
            yield "projection is not of pairs of coordinates for each of its classes"
