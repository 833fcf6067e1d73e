"""``d3 bench``: the cost of a generator step, with and without D³."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import profile

from d3_plugin.attachment.attach import attach
from d3_plugin.data import GZSLData, load
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.errors import D3Error, FailedRunsError, Problems
from d3_plugin.experiments.preflight import read_request
from d3_plugin.experiments.run import host_settings
from d3_plugin.hooks.describe import describe_trainer
from d3_plugin.hooks.manager import make_manager
from d3_plugin.hosts.host import HostFamily

_BLOCK = 5  # generator steps that are timed together, at least


@dataclass(frozen=True)
class Cost:
    """What was measured, for one host family.

    Attributes:
        baseline, with_d3: seconds per generator step, its critic steps included; medians.
        ratio: median of the ratios of neighbouring blocks.
        baseline_memory, with_d3_memory: peak bytes: of the process on the CPU, data and libraries
            included; of what PyTorch allocated on a GPU.
        table: where the time of +D³'s steps goes, by operator.
    """

    baseline: float
    with_d3: float
    ratio: float
    baseline_memory: int
    with_d3_memory: int
    table: str

    def __str__(self) -> str:
        return (
            f"baseline {self.baseline * 1e3:.1f} ms, +D³ {self.with_d3 * 1e3:.1f} ms per generator "
            f"step: {self.ratio:.3f} times; peak memory {self.baseline_memory / 2**20:.0f} MiB, "
            f"+D³ {self.with_d3_memory / 2**20:.0f} MiB"
        )


class _Timed:
    """A trainer whose ``fit()`` makes one block of steps, timed between optimiser steps.

    What ``fit()`` does before its first step and after its last one is not counted.
    """

    def __init__(
        self,
        family: HostFamily,
        data: str | GZSLData,
        device: str,
        host: dict[str, Any],
        d3: D3Settings | None,
    ) -> None:
        self.device = torch.device(device)
        problem = (data if isinstance(data, GZSLData) else load(data)).scaled()
        plugins = [] if family.hooks is None else [family.hooks]
        trainer = family.build(problem, host_settings(family, host), 0, self.device)
        interval = describe_trainer(make_manager(plugins), trainer).interval
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self.steps = -(-_BLOCK // interval) * interval  # every block has as many steps of D³
        settings = host_settings(family, {**host, "steps": self.steps + 1})
        self.trainer = family.build(problem, settings, 0, self.device)
        if d3 is not None:
            attach(self.trainer, settings=d3, plugins=plugins)
        optimizer = describe_trainer(make_manager(plugins), self.trainer).optimizer
        optimizer.register_step_post_hook(self._stepped)
        self._marks: list[float] = []
        self._made = 0

    def _stepped(self, *_: Any) -> None:
        self._made += 1
        if self._made in (1, self.steps + 1):
            self._marks.append(self._now())

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def block(self) -> float:
        """Seconds per generator step over one block."""
        self._marks, self._made = [], 0
        self.trainer.fit()
        first, last = self._marks
        return (last - first) / self.steps


def bench(
    adapter: str | HostFamily = "all",
    data: str | GZSLData = "digits",
    *,
    rounds: int = 5,
    host: Mapping[str, Any] | None = None,
    d3: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> dict[str, Cost]:
    """Time a generator step with and without D³, and show where the time goes.

    Blocks of steps of the baseline and of +D³ are timed in turn.

    Args:
        adapter: a host family, several separated by commas, or ``all``; their settings must have
            ``steps``.
        data, host, d3, device: as in :func:`d3_plugin.experiments.compare`.
        rounds: pairs of blocks; one more goes first and is not counted.

    Returns:
        The cost by host family.

    Raises:
        D3Error: bad arguments, or the training fails.
    """
    request = read_request(locals(), Problems("bench"))
    costs: dict[str, Cost] = {}
    for name, family in request.families.items():
        try:
            costs[name] = _cost(rounds, request.d3, (family, data, device, request.host_changes))
        except D3Error:
            raise
        except Exception as error:  # as a rule, too large a network or batch
            kind = type(error).__name__
            raise FailedRunsError(f"{name} cannot train so ({kind}: {error})") from error
        print(f"{costs[name].table}\n{name}: {costs[name]}\n", flush=True)
    return costs


def _cost(
    rounds: int, d3: D3Settings, host: tuple[HostFamily, str | GZSLData, str, dict[str, Any]]
) -> Cost:
    baseline, with_d3 = _Timed(*host, None), _Timed(*host, d3)
    times = [(baseline.block(), with_d3.block()) for _ in range(rounds + 1)][1:]
    kind = "cuda" if with_d3.device.type == "cuda" else "cpu"
    with profile() as profiler:
        with_d3.block()
    table = profiler.key_averages().table(sort_by=f"self_{kind}_time_total", row_limit=12)
    del baseline, with_d3
    return Cost(
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
        statistics.median(b / a for a, b in times),
        _peak_memory(*host, None),
        _peak_memory(*host, d3),
        table,
    )


def _peak_memory(*timed: Any) -> int:
    """Peak memory of one block, in a process of its own: peaks never come down again."""
    from joblib.externals.loky import ProcessPoolExecutor  # which can send modules, as hooks are

    with ProcessPoolExecutor(1) as pool:
        peak: int = pool.submit(_one_block, *timed).result()
    return peak


def _one_block(*timed: Any) -> int:
    trainer = _Timed(*timed)
    trainer.block()
    if trainer.device.type == "cuda":
        return torch.cuda.max_memory_allocated(trainer.device)
    status = Path("/proc/self/status")  # getrusage also counts the parent's peak, before exec
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
