"""What runs record beside their scores: the terms of D³ over the training, and some features."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import d3_plugin
from d3_adapters.diffusion import DiffusionSettings
from d3_adapters.fclswgan import FCLSWGANSettings, FCLSWGANTrainer
from d3_plugin import D3Settings
from d3_plugin.data import GZSLData, load
from d3_plugin.experiments import training
from d3_plugin.experiments.recording import CLASSES, ROWS, TermRecorder, project
from d3_plugin.experiments.run import execute
from d3_plugin.experiments.run_identity import Run
from d3_plugin.hooks.specs import hookimpl
from tests.experiments.tiny import D3, HOST

TERMS = {"cls", "kl", "be", "od", "total", "teacher_real", "teacher_synthetic"}
FCLSWGAN = asdict(FCLSWGANSettings(**{**HOST, "steps": 45}))
RUN = Run(
    *("fclswgan", "digits-2", "", 1, "d3", "test", FCLSWGAN, D3Settings(weight=0.01, **D3)),
    draws=1,
    device="cpu",
)


def test_means_between_the_hosts_own_entries(toy_data: GZSLData) -> None:
    every: list[dict[str, float]] = []

    class Watch:
        @hookimpl
        def d3_after_step(self, values: dict[str, torch.Tensor]) -> None:
            every.append({name: value.item() for name, value in values.items()})

    trainer = FCLSWGANTrainer(toy_data, FCLSWGANSettings(**{**HOST, "steps": 45}))
    recorder = TermRecorder(trainer)
    d3_plugin.attach(trainer, settings=RUN.d3, plugins=[recorder, Watch()])
    trainer.fit()
    recorder.close()
    steps = [entry["step"] for entry in recorder.history]
    assert steps == [entry["step"] for entry in trainer.history]
    assert len(every) == 45
    for entry, first in zip(recorder.history, range(0, 44, 2), strict=True):
        assert entry.keys() >= TERMS
        for name in TERMS:
            assert entry[name] == pytest.approx(
                np.mean([e[name] for e in every[first : first + 2]])
            )
        assert 1 / 6 <= entry["teacher_real"] <= 1


def test_teacher_is_surer_of_real_rows() -> None:
    (made,) = execute([replace(RUN, d3=D3Settings(embedding_dim=64))])
    last = made.d3_history[-1]
    assert last["teacher_real"] > last["teacher_synthetic"] + 0.05


@pytest.mark.parametrize("adapter", ["fclswgan", "diffusion"])
def test_a_killed_run_records_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapter: str
) -> None:
    """With D³ at every step, and at every tenth."""
    diffusion = asdict(DiffusionSettings(**{**HOST, "steps": 45, "blocks": 1}))
    run = replace(RUN, adapter=adapter, host=FCLSWGAN if adapter == "fclswgan" else diffusion)
    whole, file = execute([run])[0], tmp_path / "run.pt"

    class Killed(training.Checkpoint):
        def save(self, step: int) -> None:
            super().save(step)
            if step == 24:
                raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training, "Checkpoint", Killed)
        with pytest.raises(KeyboardInterrupt):
            execute([run], file, every=0.0)
    assert file.exists()
    (resumed,) = execute([run], file, every=0.0)
    assert resumed.d3_history == whole.d3_history != []
    assert resumed.projection == whole.projection
    assert resumed.history == whole.history


def test_projection_changes_no_stream_and_shares_its_axes() -> None:
    data = load("digits-1").scaled()
    trainer: Any = FCLSWGANTrainer(data, FCLSWGANSettings(**HOST))
    trainer.fit()
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    one = project(trainer, 3)
    now = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    assert torch.equal(before[0], now[0])
    assert before[1] == now[1]
    assert project(trainer, 3) == one
    other = FCLSWGANTrainer(data, FCLSWGANSettings(**HOST), seed=5)
    assert project(other, 3)["real"] == one["real"]
    assert project(other, 3)["synthetic"] != one["synthetic"]
    unseen = set(data.unseen_classes.tolist())
    assert [each in unseen for each in one["classes"]] == [True] * len(unseen) + [False] * CLASSES
    for kind in ("real", "synthetic"):
        assert [np.shape(rows) for rows in one[kind]] == [(ROWS, 2)] * len(one["classes"])


def test_a_diverged_generator_is_projected(toy_data: GZSLData) -> None:
    trainer: Any = FCLSWGANTrainer(toy_data, FCLSWGANSettings(**HOST))
    with torch.no_grad():
        for parameter in trainer.generator.parameters():
            parameter.fill_(math.nan)
    made = project(trainer, 0)
    assert np.isnan(made["synthetic"]).all()
    assert np.isfinite(np.concatenate(made["real"])).all()
