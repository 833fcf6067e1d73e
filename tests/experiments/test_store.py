"""Stored files that are not what this program wrote: each is named, before any training."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from d3_plugin import DataError
from d3_plugin.experiments.checkpoint import Checkpoint
from d3_plugin.experiments.store import RunStore
from tests.experiments.tiny import outcome

ARRAYS = ["scores", "labels", "host_scores", "prior", "seen_classes", "unseen_classes"]
FACTS = ["metrics", "history", "generator_start", "generator_mean", "seconds", "teacher_auroc"]


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    store = RunStore(tmp_path)
    store.save(outcome(0))
    return store


def rewrite(store: RunStore, **changes: Any) -> None:
    path = store.path(outcome(0).run)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, **changes})


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize(
    "value", [np.zeros(3), np.array("text"), np.zeros((2, 3, 4, 5)), np.array([9]), np.array([])]
)
def test_arrays_of_another_shape_or_type(store: RunStore, name: str, value: Any) -> None:
    rewrite(store, **{name: value})
    with pytest.raises(DataError, match=r"a-seed0-test-baseline\.npz is damaged"):
        store.load(outcome(0).run)


@pytest.mark.parametrize("name", FACTS)
@pytest.mark.parametrize("value", ["text", [], [1], {"a": []}])
def test_facts_of_another_type(store: RunStore, name: str, value: Any) -> None:
    if name == "history" and value == []:
        pytest.skip("is a history")
    with np.load(store.path(outcome(0).run)) as file:
        facts = json.loads(str(file["facts"]))
    rewrite(store, facts=np.array(json.dumps({**facts, name: value})))
    with pytest.raises(DataError, match=r"a-seed0-test-baseline\.npz is damaged"):
        store.load(outcome(0).run)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file(store: RunStore, make: Any) -> None:
    """A FIFO nobody writes to must not be waited for."""
    path = store.path(outcome(0).run)
    path.unlink()
    make(path)
    with pytest.raises(DataError, match=r"a-seed0-test-baseline\.npz is not a file"):
        store.load(outcome(0).run)
    make(store.checkpoint([outcome(0).run]))
    file, trainer = store.checkpoint([outcome(0).run]), nn.Linear(1, 1)
    checkpoint = Checkpoint(file, trainer, [], torch.device("cpu"))
    with pytest.raises(DataError, match=r"a-seed0-test-baseline.*\.checkpoint\.pt is not a file"):
        checkpoint.load()


def test_a_checkpoint_of_other_settings_is_not_read_and_goes_with_the_run(tmp_path: Path) -> None:
    store, run = RunStore(tmp_path), outcome(0).run
    store.prepare()
    old, new = store.checkpoint([replace(run, host={"lr": 1})]), store.checkpoint([run])
    assert old != new
    old.touch()
    store.checkpoint([replace(run, seed=10)]).touch()
    store.remove_checkpoints(run)
    assert [file.name.partition("+")[0] for file in store.folder.iterdir()] == [
        "a-seed10-test-baseline"
    ]
