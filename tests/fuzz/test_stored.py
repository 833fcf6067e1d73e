"""One value at a time of a stored file is another one: the file is read right, or named."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from d3_plugin import D3Error, D3Settings, InputError
from d3_plugin.data import GZSLData
from d3_plugin.errors import DataError
from d3_plugin.experiments import CompareOptions
from d3_plugin.experiments.checkpoint import Checkpoint
from d3_plugin.experiments.run_identity import Run
from d3_plugin.experiments.store import RunStore
from tests.experiments.tiny import outcome
from tests.fuzz.fuzzing import EXAMPLES
from tests.fuzz.test_fuzz_attach import parts

VALUES = [
    *(None, True, 0, -1, 3, 2**70, 0.5, -2.5, 1e308, float("nan"), float("inf")),
    *("", "text", "../x", "2026-01-31", [], [1], ["a"], [[1.0]], [[[1, 2]]], {}, {"a": 1}),
    *({"step": "x"}, [{"step": 1, "loss": "x"}], [{}], "\0", "é" * 300),
]
ARRAYS = [np.zeros(0), np.zeros((2, 3)), np.array("x"), np.array(5), np.ones(5, bool)]


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of every value inside a value of JSON types, tensors and arrays."""
    yield at
    inner = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list | tuple):
        inner = list(enumerate(value))[:3]
    for key, each in inner:
        yield from places(each, (*at, key))


def changed(value: Any, draw: random.Random) -> tuple[Any, tuple[Any, ...]]:
    """A copy with one value removed, added or replaced by another one, and its place."""
    new = copy.deepcopy(value)
    at = draw.choice([place for place in places(new) if place])
    holder = new
    for key in at[:-1]:
        holder = holder[key]
    if isinstance(holder, tuple):
        return changed(value, draw)
    old = holder[at[-1]]
    how = draw.randrange(8)
    if how == 0:
        del holder[at[-1]]
    elif how == 1 and isinstance(holder, dict):
        holder["foreign"] = draw.choice(VALUES)
    elif isinstance(old, np.ndarray | torch.Tensor) and how < 5:
        holder[at[-1]] = spoiled(old, draw)
    else:
        holder[at[-1]] = draw.choice(VALUES)
    return new, at


def spoiled(old: Any, draw: random.Random) -> Any:
    """An array or tensor with another value, shape or type."""
    if isinstance(old, torch.Tensor):
        return draw.choice([old[:0] if old.ndim else old + 1, old.double(), torch.zeros(2, 2)])
    how = draw.randrange(4)
    if how == 0:
        return draw.choice(ARRAYS)
    if how == 1:
        return old[:-1] if old.ndim else old
    new = old.copy()
    if new.dtype.kind in "if" and new.size:
        new.flat[0] = draw.choice([-1, 99, np.nan if new.dtype.kind == "f" else -7])
    return new


def run() -> Run:
    d3 = D3Settings()
    return Run("a", "d", "", 0, "baseline", "test", {"lr": 0.1}, d3, 2, "cpu")


@EXAMPLES
def test_run_files(tmp_path: Path, number: int) -> None:
    store, rng = RunStore(tmp_path), np.random.default_rng(0)
    made = outcome(0)
    evaluation = made.evaluation
    extra = {
        "student_scores": rng.normal(size=evaluation.scores.shape[1:]).astype(np.float32),
        "teacher_score": rng.random(len(evaluation.labels)),
        "teacher_auroc": 0.7,
    }
    vars(evaluation).update(extra)
    pairs = [[[0.0, 1.0]], [[2.0, float("nan")]]]
    vars(made).update(
        run=run(),
        history=[{"step": 1, "loss": 0.5}, {"step": 2, "loss": float("nan")}],
        d3_history=[{"step": 1, "cls": 0.5}],
        projection={"classes": [1, 0], "real": pairs, "synthetic": pairs},
    )
    store.save(made)
    path = store.path(run())
    whole = store.load(run())
    assert whole is not None
    assert whole.projection is not None
    with np.load(path) as file:
        arrays = dict(file)
    facts = json.loads(str(arrays.pop("facts")))
    refused = 0
    for draw in map(random.Random, range(number)):
        content, at = changed({"facts": facts, **arrays}, draw)
        text = {} if "facts" not in content else {"facts": np.array(json.dumps(content["facts"]))}
        try:
            np.savez(path, **{**content, **text})
        except ValueError:  # ragged: NumPy cannot write it either
            continue
        try:
            read = store.load(run())
        except D3Error as error:
            refused += 1
            message = str(error)
            assert str(path) in message
            identity = at[:2] == ("facts", "identity")
            assert isinstance(
                error, InputError if identity and "made with" in message else DataError
            )
            named = [part for part in (*at, "foreign") if isinstance(part, str) and part in message]
            assert named or at == ("facts",), (at, message)
        else:
            assert read is not None
            assert read.evaluation.metrics.ausuc >= 0
    assert refused > 0.7 * number


@EXAMPLES
def test_checkpoints(toy_data: GZSLData, tmp_path: Path, number: int) -> None:
    """Those that are taken continue: the next checkpoint can be written and read."""
    made = parts(toy_data)
    trainer, d3 = made["generator"], __import__("d3_plugin").attach(**made)
    history = [{"step": 1, "cls": 0.5}]
    path = tmp_path / "run.pt"
    checkpoint = Checkpoint(path, trainer, [d3], torch.device("cpu"), [history])
    checkpoint.save(1)
    whole = torch.load(path, weights_only=True)
    refused = 0
    for draw in map(random.Random, range(number)):
        content, at = changed(whole, draw)
        torch.save(content, path)
        try:
            step = checkpoint.load()
        except DataError as error:
            refused += 1
            assert str(path) in str(error)
            assert "delete it to train from the start" in str(error)
            if at[0] in ("trainer", "d3s", "histories", "step"):
                assert str(at[0]) in str(error), (at, error)
        else:
            assert step > 0
    assert refused > 0.6 * number


@EXAMPLES
@pytest.mark.filterwarnings("ignore::d3_plugin.errors.D3Warning")
def test_settings_files(tmp_path: Path, number: int) -> None:
    whole = {
        "adapter": "fclswgan",
        "note": "by hand",
        "host": {"lr": 0.1, "steps": 3, "hidden": 8},
        "d3": {"weight": 0.1, "score": "energy", "od_rescale": True, "embedding_dim": 8},
        "tuned": {"data": "digits-0", "chosen": {"d3": 1}},
    }
    path, out = tmp_path / "settings.json", tmp_path / "out"
    refused = 0
    for draw in map(random.Random, range(number)):
        content, at = changed(whole, draw)
        path.write_text(json.dumps(content))
        try:
            CompareOptions(None, "digits-0", out, settings=path).first_runs()
        except InputError as error:
            refused += 1
            message = str(error)
            assert str(path) in message, "no file is named"
            assert any(str(part) in message for part in (*at, "foreign")), (at, message)
    assert refused > 0.6 * number
