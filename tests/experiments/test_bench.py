"""``d3 bench``."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from d3_plugin import D3Settings, Host, HostError, HostFamily, InputError, hookimpl
from d3_plugin.__main__ import main
from d3_plugin.data import GZSLData, load
from d3_plugin.experiments import bench
from d3_plugin.experiments.bench import Timing, _Timed
from d3_plugin.experiments.families import find_family


def timing(d3: D3Settings | None) -> Timing:
    """Of a small host."""
    return Timing(find_family("fclswgan"), load("digits").scaled(), "cpu", {"hidden": 4}, d3)


def test_a_block_is_timed_between_two_steps_of_the_generator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timed = _Timed(timing(None))
    clock = iter([10.0, 25.0])
    monkeypatch.setattr(timed, "now", lambda: next(clock))
    assert timed.block() == 3.0, "five steps in 15 seconds"


def test_the_first_pair_is_not_counted_and_neighbours_are_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = iter([90.0, 95.0, 1.0, 1.5, 2.0, 2.2, 4.0, 4.8])  # 1.5, 1.1 and 1.2 times
    monkeypatch.setattr(_Timed, "block", lambda self: next(times))
    monkeypatch.setattr(_Timed, "phases", lambda self: {"terms": 0.1})
    monkeypatch.setattr(bench, "_peak_memory", lambda timing, threads: 2 if timing.d3 else 1)
    cost = bench.bench("fclswgan", "digits", rounds=3, host={"hidden": 4})["fclswgan"]
    assert (cost.baseline, cost.with_d3, cost.ratio) == (2.0, 2.2, 1.2)
    assert (cost.baseline_memory, cost.with_d3_memory) == (1, 2)


def test_only_the_second_trainer_has_d3() -> None:
    assert _Timed(timing(None)).d3 is None
    timed = _Timed(timing(D3Settings(weight=0.01, teacher_epochs=1, embedding_dim=4)))
    timed.block()
    assert timed.d3 is not None
    assert timed.d3.steps == timed.steps + 1


@dataclass(frozen=True)
class Settings:
    steps: int = 5


class Odd:
    """A trainer whose generator takes no noise; its hooks do not say how it is called."""

    def __init__(self, data: GZSLData, settings: Settings, seed: int, device: object) -> None:
        self.data, self.settings = data, settings
        self.generator = nn.Linear(3, data.feature_dim)
        self.optimizer = torch.optim.SGD(self.generator.parameters())

    def fit(self) -> None:
        for _ in range(self.settings.steps):
            self.generator.weight.grad = torch.zeros_like(self.generator.weight)
            self.optimizer.step()

    @staticmethod
    @hookimpl
    def d3_describe_host(trainer: Odd) -> Host:
        return Host("odd", trainer.generator, trainer.optimizer, trainer.data, trainer=trainer)


def test_an_unknown_call_is_advised_for_a_plugin() -> None:
    family = HostFamily("odd", "", Settings, Odd, hooks=Odd)
    with pytest.raises(HostError, match=r"odd: .*synthesize=.*the hook d3_synthesize_features"):
        bench.bench(family, "digits-1", rounds=1, d3={"teacher_epochs": 1, "embedding_dim": 4})


FEW = ["--adapter", "fclswgan", "--host", "hidden=4", "--set", "teacher_epochs=1", "--rounds", "1"]


def test_peak_memory_is_that_of_a_process() -> None:
    assert 50 < bench._peak_memory(timing(None), 1) >> 20 < 20_000


def test_the_command_prints_a_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = {True: 300 << 20, False: 200 << 20}
    monkeypatch.setattr(bench, "_peak_memory", lambda timing, threads: memory[bool(timing.d3)])
    assert main(["bench", *FEW]) == 0
    header, _, line = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in capsys.readouterr().out.strip().splitlines()
    ]
    cells = dict(zip(header, line, strict=True))
    assert cells["ms per generator step"] == "fclswgan"
    parts = [float(cells[name]) for name in ("teacher, student", "terms", "backward, Adam")]
    assert all(ms > 0 for ms in parts)
    assert sum(parts) < float(cells["+D³"])
    assert float(cells["baseline"]) > 0
    assert float(cells["ratio"]) > 0
    assert cells["peak MiB"] == "200 → 300"


def test_operators_are_shown_if_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "_peak_memory", lambda timing, threads: 1)
    monkeypatch.setattr(_Timed, "block", lambda self: torch.ones(2).sum().item())
    monkeypatch.setattr(_Timed, "phases", lambda self: {})
    assert main(["bench", *FEW, "-v"]) == 0
    assert "aten::sum" in capsys.readouterr().out


def test_threads_are_set_for_the_blocks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before, found = torch.get_num_threads(), []
    monkeypatch.setattr(bench, "_peak_memory", lambda timing, threads: found.append(threads) or 1)

    def block(self: _Timed) -> float:
        found.append(torch.get_num_threads())
        return 1.0

    monkeypatch.setattr(_Timed, "block", block)
    monkeypatch.setattr(_Timed, "phases", lambda self: {})
    few = {"host": {"hidden": 4}, "d3": {"teacher_epochs": 1, "embedding_dim": 4}}
    bench.bench("fclswgan", rounds=1, threads=before + 1, **few)
    assert set(found) == {before + 1}
    assert torch.get_num_threads() == before


def test_timing_the_phases_leaves_d3_as_it_was() -> None:
    timed = _Timed(timing(D3Settings(teacher_epochs=1, embedding_dim=4)))
    timed.block()
    phases = timed.phases()
    assert all(seconds > 0 for seconds in phases.values())
    assert not {"batch", "terms"} & vars(timed.d3.distiller).keys()
    assert "train" not in vars(timed.d3._loss.student)


def test_bad_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="rounds"):
        bench.bench("fclswgan", "digits", rounds=0)
    assert main(["bench", "--adapter", "nobody"]) == 2
    assert "nobody" in capsys.readouterr().err
