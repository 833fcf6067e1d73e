"""The CSV log: every step, whatever names come, without waiting for the device in between."""

from __future__ import annotations

import csv
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from d3_plugin import D3Warning, InputError, StorageError
from d3_plugin.data import GZSLData
from d3_plugin.hooks import CSVLog
from tests.toys import ScriptHost, attach


def read(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def one(value: float, **further: float) -> dict[str, Tensor]:
    return {name: torch.tensor(x) for name, x in {"total": value, **further}.items()}


def test_every_step_of_d3(toy_data: GZSLData, tmp_path: Path) -> None:
    log = CSVLog(tmp_path / "d3.csv", every=2)
    d3 = attach(ScriptHost(toy_data), plugins=[log])
    expected = []
    for _ in range(3):
        d3.loss()
        expected.append({name: value.item() for name, value in d3.values.items()})
    assert len(read(tmp_path / "d3.csv")) == 2, "the third is not due"
    log.flush()
    log.flush()
    rows = read(tmp_path / "d3.csv")
    assert [row.pop("step") for row in rows] == ["1", "2", "3"]
    assert [{k: float(v) for k, v in row.items()} for row in rows] == [
        pytest.approx(each, rel=1e-6) for each in expected
    ]


def test_values_are_read_when_they_are_written(tmp_path: Path) -> None:
    """Tensors of the device meta cannot be read at all."""
    log = CSVLog(tmp_path / "d3.csv", every=3)
    unreadable = {"total": torch.ones((), device="meta")}
    for step in (1, 2):
        log.d3_after_step(step, unreadable)
    with pytest.raises(NotImplementedError):
        log.d3_after_step(3, unreadable)
    log._file.held.clear()


def test_names_may_come_and_go(tmp_path: Path) -> None:
    path = tmp_path / "d3.csv"
    log = CSVLog(path, every=1)
    log.d3_after_step(1, one(0.5))
    log.d3_after_step(2, one(0.25, share=3.0) | {"exact": torch.tensor(0.1, dtype=torch.float64)})
    log.d3_after_step(3, one(0.125))
    assert path.read_text().splitlines() == [
        "step,total,share,exact", "1,0.5,,", "2,0.25,3,0.1", "3,0.125,,"
    ]  # fmt: skip


def test_a_resumed_run_continues_the_file(tmp_path: Path) -> None:
    path = tmp_path / "d3.csv"
    first = CSVLog(path, every=1)
    for step in (1, 2, 3):
        first.d3_after_step(step, one(step, early=0.5))
    resumed = CSVLog(path, every=1)  # from a checkpoint of step 1
    for step in (2, 3, 4):
        resumed.d3_after_step(step, one(10 * step))
    assert path.read_text().splitlines() == [
        "step,total,early", "1,1,0.5", "2,20,", "3,30,", "4,40,"
    ]  # fmt: skip


def test_the_end_of_the_program_writes_the_rest(tmp_path: Path) -> None:
    code = """if True:
        import sys, torch
        from d3_plugin.hooks import CSVLog
        CSVLog(sys.argv[1]).d3_after_step(1, {"total": torch.tensor(2.0)})
        held = CSVLog(sys.argv[2])
        held.d3_after_step(1, {"total": torch.tensor(3.0)})
    """
    paths = [tmp_path / "dropped.csv", tmp_path / "held.csv"]
    subprocess.run([sys.executable, "-c", code, *map(str, paths)], check=True)
    assert [read(path) for path in paths] == [
        [{"step": "1", "total": "2"}],
        [{"step": "1", "total": "3"}],
    ]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("name,H\nmine,50\n")
    with pytest.raises(InputError, match=r"results\.csv is not a log of D³"):
        CSVLog(path)
    assert path.read_text() == "name,H\nmine,50\n"
    path.write_bytes(b"step,total\n\xff\xfe")
    with pytest.raises(InputError, match="is not a log"):
        CSVLog(path)
    path.write_text("step,total\none,0.5\n")
    with pytest.raises(InputError, match="not a log"):
        CSVLog(path)
    for unwritable in (tmp_path / "missing" / "d3.csv", tmp_path):
        with pytest.raises(StorageError, match="cannot write"):
            CSVLog(unwritable)
    with pytest.raises(InputError, match="every must be"):
        CSVLog(tmp_path / "d3.csv", every=0)


def test_a_file_that_is_a_log_no_longer_ends_no_training(tmp_path: Path) -> None:
    path = tmp_path / "d3.csv"
    log = CSVLog(path, every=1)
    path.write_text("name,H\nmine,50\n")
    with pytest.warns(D3Warning, match="lacks the steps from 1 on"):
        log.d3_after_step(1, {"total": torch.tensor(1.0)})
    assert path.read_text() == "name,H\nmine,50\n"
    path.write_text("")
    log.d3_after_step(2, {"total": torch.tensor(2.0)})
    assert [row["step"] for row in read(path)] == ["1", "2"]


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """No file grows above this size: a write is cut off there, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("resumed", [False, True])
def test_a_full_disk_does_not_end_the_training(tmp_path: Path, resumed: bool) -> None:
    path = tmp_path / "d3.csv"
    log = CSVLog(path, every=2)
    for step in range(1, 5):
        log.d3_after_step(step, one(step))
    whole = path.read_text()
    if resumed:
        log = CSVLog(path, every=2)
    log.d3_after_step(5, one(5))
    with at_most(path.stat().st_size + 3), pytest.warns(D3Warning, match="lacks the steps from 5"):
        log.d3_after_step(6, one(6))
    assert path.read_text() == whole, "nothing is half written"
    assert os.listdir(tmp_path) == ["d3.csv"]
    for step in (7, 8):
        log.d3_after_step(step, one(step))
    assert path.read_text().splitlines() == ["step,total", *(f"{n},{n}" for n in range(1, 9))]


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "d3.csv"
    path.write_text("step,total\n1,0.5\n12")  # of 123
    log = CSVLog(path, every=1)
    log.d3_after_step(123, one(2.0))
    assert path.read_text().splitlines() == ["step,total", "1,0.5", "123,2"]
