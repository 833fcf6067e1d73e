"""``d3 bench``."""

from __future__ import annotations

import re

import pytest
from torch.profiler import profile

from d3_plugin import D3Settings, InputError
from d3_plugin.__main__ import main
from d3_plugin.data import load
from d3_plugin.experiments import bench
from d3_plugin.experiments.bench import Timing, _Timed
from d3_plugin.experiments.run import find_family


def timing(d3: D3Settings | None) -> Timing:
    """Of a small host."""
    return Timing(find_family("fclswgan"), load("digits").scaled(), "cpu", {"hidden": 4}, d3)


def test_a_block_is_timed_between_two_steps_of_the_generator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timed = _Timed(timing(None))
    clock = iter([10.0, 25.0])
    monkeypatch.setattr(timed, "_now", lambda: next(clock))
    assert timed.block() == 3.0, "five steps in 15 seconds"


def test_the_first_pair_is_not_counted_and_neighbours_are_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = iter([90.0, 95.0, 1.0, 1.5, 2.0, 2.2, 4.0, 4.8])  # 1.5, 1.1 and 1.2 times
    monkeypatch.setattr(_Timed, "block", lambda self: next(times, 0.0))
    monkeypatch.setattr(bench, "_peak_memory", lambda timing: 2 if timing.d3 else 1)
    cost = bench.bench("fclswgan", "digits", rounds=3, host={"hidden": 4})["fclswgan"]
    assert (cost.baseline, cost.with_d3, cost.ratio) == (2.0, 2.2, 1.2)
    assert (cost.baseline_memory, cost.with_d3_memory) == (1, 2)


def test_only_the_second_trainer_has_d3(monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    for settings in (None, D3Settings(weight=0.01, teacher_epochs=1, embedding_dim=4)):
        timed = _Timed(timing(settings))
        with profile() as profiler:
            timed.block()
        names.append({event.key for event in profiler.key_averages()})
    assert "GivenGradient" not in names[0]
    assert "GivenGradient" in names[1]


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--host", "hidden=4", "--set", "teacher_epochs=1", "--rounds", "1"]
    assert main(["bench", "--adapter", "fclswgan", *few]) == 0
    printed = capsys.readouterr().out
    assert "aten::mm" in printed
    line = r"fclswgan: baseline [\d.]+ ms, \+D³ [\d.]+ ms per generator step: [\d.]+ times; "
    memory = re.search(line + r"peak memory (\d+) MiB, \+D³ (\d+) MiB", printed)
    assert memory
    assert all(50 < int(size) < 20_000 for size in memory.groups())


def test_bad_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="rounds"):
        bench.bench("fclswgan", "digits", rounds=0)
    assert main(["bench", "--adapter", "nobody"]) == 2
    assert "nobody" in capsys.readouterr().err
