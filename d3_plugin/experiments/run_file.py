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

from d3_plugin.checks import Share, first_misfits
from d3_plugin.errors import DataError, InputError
from d3_plugin.evaluation.metrics import GZSLMetrics, check_arrays, check_scores
from d3_plugin.evaluation.result import Evaluation
from d3_plugin.experiments.run import Outcome
from d3_plugin.experiments.run_identity import Run
from d3_plugin.report.rows import Record

_REQUIRED = {"scores": "DNC", "labels": "N", "seen_classes": "S", "unseen_classes": "U"}
_OPTIONAL = {"host_scores": "DNC", "student_scores": "NC", "prior": "C", "teacher_score": "N"}
_ARRAYS = {**_REQUIRED, **_OPTIONAL}
"""Letters of the dimensions, equal ones for equal sizes."""

_CLASS_IDS = ("labels", "seen_classes", "unseen_classes")
"""Arrays of integers; the others are of floats."""


class _Facts(TypedDict):
    """What the file of a run holds beside arrays."""

    identity: dict[str, Any]
    metrics: dict[str, Any]  # of GZSLMetrics
    teacher_auroc: Share | None
    classifier: str
    record: dict[str, Any]  # of Record


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
        problem = _misfits(facts, arrays) or "; ".join(_contradictions(facts, arrays))
    if problem:
        raise DataError(
            f"{path} is damaged ({problem}); delete it and start again, the other runs are kept"
        )
    of_scores = {name: facts[name] for name in ("teacher_auroc", "classifier")}
    evaluation = Evaluation(GZSLMetrics(**facts["metrics"]), **arrays, **of_scores)
    return facts["identity"], Outcome(run=run, evaluation=evaluation, **facts["record"])


def _misfits(facts: Any, arrays: dict[str, Any]) -> str:
    """What is wrong with names, types, shapes and ranges; "" if nothing is."""
    for name in arrays.keys() ^ _ARRAYS.keys():
        if name not in _OPTIONAL:
            return f"there is {'an' if name in arrays else 'no'} array {name!r}"
    try:
        described = {name: (_ARRAYS[name], array) for name, array in arrays.items()}
        check_arrays("arrays", **described).raise_as(InputError)
        check_scores("arrays", arrays["scores"][0], *(arrays[name] for name in _CLASS_IDS))
    except InputError as error:
        return str(error)
    for name in arrays.keys() - _CLASS_IDS:
        if arrays[name].dtype.kind != "f":
            return f"{name} is of {arrays[name].dtype}"
    return (
        first_misfits(facts, _Facts)
        or first_misfits(facts["metrics"], GZSLMetrics, "metrics")
        or first_misfits(facts["record"], Record, "record")
    )


def _contradictions(facts: dict[str, Any], arrays: dict[str, Any]) -> Iterator[str]:
    """Where values that have the right types cannot be true together."""
    classes, record = arrays["scores"].shape[2], facts["record"]
    ids = [*arrays["seen_classes"], *arrays["unseen_classes"]]
    if not (arrays.get("prior", np.zeros(1)) >= 0).all():
        yield "prior is below 0"
    if len(record["class_names"]) != classes:
        yield f"class_names has {len(record['class_names'])} names for {classes} classes"
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
