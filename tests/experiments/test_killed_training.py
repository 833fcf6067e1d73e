"""SIGKILL in the middle of a training: the run ends as if nothing had happened."""

from __future__ import annotations

import random
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from d3_adapters.fclswgan import FCLSWGANSettings
from d3_plugin import D3Settings
from d3_plugin.experiments.run import execute
from d3_plugin.experiments.run_identity import Run
from d3_plugin.experiments.store import RunStore
from tests.forked import FORKSERVER, start_server

HOST = asdict(FCLSWGANSettings(steps=60, batch_size=16, hidden=16, critic_steps=1))
D3_SMALL = D3Settings(embedding_dim=8, teacher_epochs=1, weight=0.5)
RUN = Run("fclswgan", "digits-1", "", 0, "d3", "test", HOST, D3_SMALL, 1, "cpu")


def _train(out: Path) -> None:
    torch.set_num_threads(1)
    store = RunStore(out)
    for outcome in execute([RUN], store.checkpoint([RUN]), every=0.0):
        store.save(outcome)


@pytest.mark.filterwarnings("ignore:D³'s part of the generator's gradient")
@pytest.mark.parametrize("wanted", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_and_the_same_end(tmp_path: Path, wanted: int) -> None:
    start_server()
    whole, killed = RunStore(tmp_path / "whole"), RunStore(tmp_path / "killed")
    started = time.monotonic()
    process = FORKSERVER.Process(target=_train, args=(tmp_path / "whole",))
    process.start()
    process.join()
    length = time.monotonic() - started
    assert process.exitcode == 0

    draw = random.Random(0)
    kills, continued = 0, 0
    while kills < wanted:
        had = killed.checkpoint([RUN]).exists()
        process = FORKSERVER.Process(target=_train, args=(tmp_path / "killed",))
        process.start()
        process.join(draw.uniform(0.2, 0.9) * length)
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
            continued += had
        else:
            assert process.exitcode == 0
            killed.path(RUN).unlink()  # it came through: once more from the last checkpoint
    assert continued > 0, "some began from a checkpoint"
    process = FORKSERVER.Process(target=_train, args=(tmp_path / "killed",))
    process.start()
    process.join()
    assert process.exitcode == 0

    one, other = whole.load(RUN), killed.load(RUN)
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one.evaluation.scores, other.evaluation.scores)
    assert one.history == other.history
    assert one.generator_mean == other.generator_mean
    assert one.evaluation.metrics == other.evaluation.metrics
    left = {file.name for file in killed.folder.iterdir() if file.suffix != ".tmp"}
    assert left <= {killed.path(RUN).name, killed.checkpoint([RUN]).name}


@pytest.mark.filterwarnings("ignore:D³'s part of the generator's gradient")
def test_ctrl_c_in_a_training_of_a_second_keeps_a_checkpoint(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.prepare()
    checkpoint = store.checkpoint([RUN])

    def interrupt(step: int) -> None:
        if step > 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute([RUN], checkpoint, interrupt)
    steps: list[int] = []
    (continued,) = execute([RUN], checkpoint, steps.append)
    (whole,) = execute([RUN])
    assert steps[0] > 60 // 20, "it did not start anew"
    np.testing.assert_array_equal(continued.evaluation.scores, whole.evaluation.scores)
    assert continued.history == whole.history
