"""Checkpoints: a run that was killed ends where an uninterrupted one ends, bit for bit."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import d3_plugin
from d3_adapters.diffusion import DiffusionSettings, DiffusionTrainer
from d3_adapters.fclswgan import FCLSWGANSettings, FCLSWGANTrainer
from d3_adapters.tfvaegan import TFVAEGANSettings, TFVAEGANTrainer
from d3_plugin import D3, D3Settings, DataError, StorageError
from d3_plugin.data import GZSLData
from d3_plugin.experiments.checkpoint import Checkpoint

CPU = torch.device("cpu")
SMALL = D3Settings(embedding_dim=8, teacher_epochs=2, weight=0.5)
SIZE: dict[str, Any] = {"steps": 40, "batch_size": 16, "hidden": 8}
Build = Callable[[GZSLData], Any]


def fclswgan(data: GZSLData) -> FCLSWGANTrainer:
    return FCLSWGANTrainer(data, FCLSWGANSettings(critic_steps=2, **SIZE))


def tfvaegan(data: GZSLData) -> TFVAEGANTrainer:
    return TFVAEGANTrainer(data, TFVAEGANSettings(critic_steps=2, **SIZE))


def diffusion(data: GZSLData) -> DiffusionTrainer:
    return DiffusionTrainer(data, DiffusionSettings(**SIZE))


class KilledError(Exception):
    pass


def attached(trainer: Any, with_d3: bool) -> D3 | None:
    return d3_plugin.attach(trainer, settings=SMALL) if with_d3 else None


def end(trainer: Any, d3: D3 | None) -> dict[str, Any]:
    """Everything that a run leaves behind, flat."""
    flat: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "rows": trainer.synthesize(torch.arange(5)),
    }
    flat["numpy"] = torch.from_numpy(np.random.get_state()[1].astype(np.int64))  # noqa: NPY002

    def visit(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, part in value.items():
                visit(f"{name}.{key}", part)
        elif isinstance(value, list | tuple):
            for position, part in enumerate(value):
                visit(f"{name}.{position}", part)
        else:
            flat[name] = value

    visit("trainer", trainer.state_dict())
    visit("d3", d3.state_dict() if d3 else None)
    return flat


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    differing = [
        name
        for name, value in one.items()
        if not (torch.equal(value, other[name]) if torch.is_tensor(value) else value == other[name])
    ]
    assert differing == []


@pytest.mark.parametrize("with_d3", [False, True])
@pytest.mark.parametrize("build", [fclswgan, tfvaegan, diffusion])
def test_a_killed_run_ends_like_an_uninterrupted_one(
    toy_data: GZSLData, tmp_path: Path, build: Build, with_d3: bool
) -> None:
    np.random.seed(6)  # noqa: NPY002 - of the first process; the others get it from the file
    trainer = build(toy_data)
    d3 = attached(trainer, with_d3)
    trainer.fit()
    whole = end(trainer, d3)

    file = tmp_path / "run.pt"
    for kill_at in (6, 26, 40):  # three processes one after the other; a checkpoint at even steps
        torch.manual_seed(kill_at)
        np.random.seed(kill_at)  # noqa: NPY002
        trainer = build(toy_data)
        d3 = attached(trainer, with_d3)
        start = Checkpoint(file, trainer, [d3] if d3 else [], CPU).load()

        def step_done(step: int, losses: dict[str, float]) -> None:
            if step == kill_at:  # noqa: B023 - called within this turn of the loop
                raise KilledError
            Checkpoint(file, trainer, [d3] if d3 else [], CPU).save(step)  # noqa: B023

        if kill_at < 40:
            with pytest.raises(KilledError):
                trainer.fit(step_done, start=start)
        else:
            assert start == 24, "the last step before the second kill"
            trainer.fit(start=start)
    assert_same(whole, end(trainer, d3))


def test_no_file_starts_from_the_beginning(toy_data: GZSLData, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    assert Checkpoint(tmp_path / "none.pt", fclswgan(toy_data), [], CPU).load() == 0
    torch.set_rng_state(before)


@pytest.fixture
def saved(toy_data: GZSLData, tmp_path: Path) -> Path:
    file = tmp_path / "run.pt"
    Checkpoint(file, fclswgan(toy_data), [], CPU).save(2)
    return file


@pytest.mark.parametrize(
    "content", [b"", b"no checkpoint", b"PK\x03\x04 cut short", b"\x80\x02}q\x00."]
)
def test_damaged_files_are_named(toy_data: GZSLData, saved: Path, content: bytes) -> None:
    saved.write_bytes(content)
    with pytest.raises(DataError, match=r"(?s)run\.pt is damaged.*delete it"):
        Checkpoint(saved, fclswgan(toy_data), [], CPU).load()


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_truncated_files_are_named(toy_data: GZSLData, saved: Path, kept: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match="is damaged"):
        Checkpoint(saved, fclswgan(toy_data), [], CPU).load()


def test_a_pickle_that_would_run_code_is_not_loaded(toy_data: GZSLData, saved: Path) -> None:
    torch.save({"format": 1, "trainer": os.system}, saved)
    with pytest.raises(DataError, match="is damaged"):
        Checkpoint(saved, fclswgan(toy_data), [], CPU).load()


def test_checkpoints_of_something_else_are_refused(toy_data: GZSLData, saved: Path) -> None:
    trainer = fclswgan(toy_data)
    with pytest.raises(DataError, match="does not fit this trainer"):
        Checkpoint(saved, trainer, [attached(trainer, True)], CPU).load()
    with pytest.raises(DataError, match="does not fit this trainer"):
        Checkpoint(saved, tfvaegan(toy_data), [], CPU).load()
    wider = FCLSWGANTrainer(toy_data, FCLSWGANSettings(hidden=9))
    with pytest.raises(DataError, match="does not fit this trainer"):
        Checkpoint(saved, wider, [], CPU).load()


def test_paths_that_hold_no_file(toy_data: GZSLData, tmp_path: Path) -> None:
    trainer = fclswgan(toy_data)
    with pytest.raises(StorageError, match="null"):
        Checkpoint(tmp_path / "a\0.pt", trainer, [], CPU).save(1)
    with pytest.raises(DataError, match="is not a file"):
        Checkpoint(tmp_path, trainer, [], CPU).load()


def test_a_full_disk_leaves_the_last_good_one(
    toy_data: GZSLData, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = saved.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises((OSError, d3_plugin.D3Error), match="No space left"):
        Checkpoint(saved, fclswgan(toy_data), [], CPU).save(4)
    assert saved.read_bytes() == good
    assert list(saved.parent.iterdir()) == [saved]
