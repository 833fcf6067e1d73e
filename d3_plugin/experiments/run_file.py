"""The file of a finished run, with its scores and facts, and the checks of both."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from d3_plugin.errors import DataError, InputError
from d3_plugin.evaluation.metrics import GZSLMetrics, check_scores
from d3_plugin.evaluation.result import Evaluation
from d3_plugin.experiments.file_schema import first_misfits
from d3_plugin.experiments.run import Outcome
from d3_plugin.experiments.run_identity import Run
from d3_plugin.report.rows import Record

_ARRAYS = (
    *("scores", "labels", "seen_classes", "unseen_classes"),  # always there
    *("host_scores", "student_scores", "prior", "teacher_score"),
)


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
        "record": {field.name: getattr(outcome, field.name) for field in fields(Record)},
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
    facts: Any = {}
    arrays, name = {}, "it"
    try:
        with np.load(path, allow_pickle=False) as file:
            for name in file:
                arrays[name] = file[name]
        name = "facts"
        facts = json.loads(str(arrays.pop("facts")))
    except Exception as error:  # a broken file makes zipfile, zlib and numpy raise anything
        problem = f"{name} cannot be read: {type(error).__name__}: {error}"
    else:
        problem = first_misfits(facts, _Facts) or _array_misfits(arrays)
        problem = problem or "; ".join(_contradictions(facts, arrays))
    if problem:
        raise DataError(
            f"{path} is damaged ({problem}); delete it and start again, the other runs are kept"
        )
    of_scores = {name: facts[name] for name in ("teacher_auroc", "classifier")}
    evaluation = Evaluation(GZSLMetrics(**facts["metrics"]), **arrays, **of_scores)
    return facts["identity"], Outcome(run=run, evaluation=evaluation, **facts["record"])


def _array_misfits(arrays: dict[str, Any]) -> str:
    """What is wrong with names, types, shapes and values of the arrays; "" if nothing is."""
    if missing := [name for name in _ARRAYS[:4] if name not in arrays]:
        return f"there is no array {', '.join(missing)}"
    if unknown := [name for name in arrays if name not in _ARRAYS]:
        return f"there is an array {unknown[0]!r}"
    scores, *ids = (arrays[name] for name in _ARRAYS[:4])
    if scores.ndim != 3 or not len(scores):
        return f"scores has shape {scores.shape}"
    shapes = {"scores": scores.shape, "host_scores": scores.shape, "prior": scores.shape[2:]}
    shapes |= {"student_scores": scores.shape[1:], "teacher_score": scores.shape[1:2]}
    for name, shape in shapes.items():
        array = arrays.get(name, np.zeros(shape))
        if array.dtype.kind != "f" or array.shape != shape or not np.isfinite(array).all():
            return f"{name} must be finite numbers {shape}, got {array.dtype} {array.shape}"
    try:
        check_scores(", ".join(_ARRAYS[:4]), scores[0], *ids)
    except InputError as error:
        return str(error)
    return ""


def _contradictions(facts: dict[str, Any], arrays: dict[str, Any]) -> Iterator[str]:
    """Where values that have the right types cannot be true together."""
    classes, record = arrays["scores"].shape[2], facts["record"]
    ids = [*arrays["seen_classes"], *arrays["unseen_classes"]]
    if not (arrays.get("prior", np.zeros(1)) >= 0).all():
        yield "prior is below 0"
    if len(record["class_names"]) != classes:
        yield f"class_names has {len(record['class_names'])} names for {classes} classes"
    shares = {**facts["metrics"], "teacher_auroc": facts["teacher_auroc"] or 0.0}
    yield from (f"{k} is {v}" for k, v in shares.items() if not 0 <= v <= 1)
    if not 0 <= record["seconds"] < np.inf:
        yield f"seconds is {record['seconds']}"
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["finished"]):
        yield f"finished is {record['finished']!r}"
    for name in ("history", "d3_history"):
        if not all("step" in entry for entry in record[name]):
            yield f"{name} has an entry without step"
    if (projection := record["projection"]) is not None:
        drawn = projection["classes"]
        groups = projection["real"] + projection["synthetic"]
        pairs = all(len(pair) == 2 for rows in groups for pair in rows)
        if not set(drawn) <= {*ids} or len(groups) != 2 * len(drawn) or not pairs:
            yield "projection is not of pairs of coordinates for each of its classes"
