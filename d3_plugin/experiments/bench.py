"""``d3 bench``: the cost of a generator step, with and without D³."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import torch
from torch.profiler import profile

from d3_plugin.attachment.attach import attach
from d3_plugin.attachment.d3 import D3
from d3_plugin.checks import Effort, takes
from d3_plugin.data import GZSLData
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.errors import D3Error, FailedRunsError, HostError, InputError
from d3_plugin.experiments.families import host_settings
from d3_plugin.experiments.options import Options
from d3_plugin.experiments.training_function import TrainingFunction
from d3_plugin.hooks.describe import describe_trainer
from d3_plugin.hooks.manager import make_manager
from d3_plugin.hosts.host import HostFamily
from d3_plugin.report.tables import aligned

_BLOCK = 5  # generator steps that are timed together, at least


@dataclass(frozen=True)
class Cost:
    """What was measured, for one host family.

    Attributes:
        baseline, with_d3: seconds per generator step, its critic steps included; medians.
        ratio: median of the ratios of neighbouring blocks.
        baseline_memory, with_d3_memory: peak bytes: of the process on the CPU, data and libraries
            included; of what PyTorch allocated on a GPU.
        phases: where D³'s part of the time goes, seconds per generator step by name.
        operators: the profiler's table of +D³'s steps; empty if it was not asked for.
    """

    baseline: float
    with_d3: float
    ratio: float
    baseline_memory: int
    with_d3_memory: int
    phases: dict[str, float]
    operators: str = ""


class Costs(dict[str, Cost]):
    """By the name of the host family."""

    def __repr__(self) -> str:
        phases = list(next(iter(self.values())).phases) if self else []
        lines = [["ms per generator step", "baseline", "+D³", "ratio", "peak MiB", *phases]]
        for name, cost in self.items():
            times = [cost.baseline, cost.with_d3, *cost.phases.values()]
            baseline, with_d3, *parts = [f"{seconds * 1e3:.2f}" for seconds in times]
            sizes = [f"{size / 2**20:.0f}" for size in (cost.baseline_memory, cost.with_d3_memory)]
            words = [name, baseline, with_d3, f"{cost.ratio:.3f}", " → ".join(sizes), *parts]
            lines.append(words)
        operators = [f"{name}\n{cost.operators}" for name, cost in self.items() if cost.operators]
        return "\n\n".join([aligned(lines), *operators])


@dataclass(frozen=True)
class Timing:
    """What is timed: a host family on scaled data, with or without D³."""

    family: HostFamily
    data: GZSLData
    device: str
    host: dict[str, Any]
    d3: D3Settings | None


class _Timed:
    """A trainer whose ``fit()`` makes one block of steps, timed between optimiser steps.

    What ``fit()`` does before its first step and after its last one is not counted.
    """

    def __init__(self, timing: Timing) -> None:
        family, data, host = timing.family, timing.data, timing.host
        self.device = torch.device(timing.device)
        plugins = [] if family.hooks is None else [family.hooks]
        trainer = family.build(data, host_settings(family, host), 0, self.device)
        interval = describe_trainer(make_manager(plugins), trainer).interval
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self.steps = -(-_BLOCK // interval) * interval  # every block has as many steps of D³
        settings = host_settings(family, {**host, "steps": self.steps + 1})
        self.trainer = family.build(data, settings, 0, self.device)
        self.d3: D3 | None = None
        if timing.d3 is not None:
            self.d3 = attach(self.trainer, settings=timing.d3, plugins=plugins)
        optimizer = describe_trainer(make_manager(plugins), self.trainer).optimizer
        optimizer.register_step_post_hook(self._stepped)
        self._marks: list[float] = []
        self._made = 0

    def _stepped(self, *_: Any) -> None:
        self._made += 1
        if self._made in (1, self.steps + 1):
            self._marks.append(self.now())

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def block(self) -> float:
        """Seconds per generator step over one block."""
        self._marks, self._made = [], 0
        self.trainer.fit()
        first, last = self._marks
        return (last - first) / self.steps

    def phases(self) -> dict[str, float]:
        """Seconds per generator step that parts of D³ take, over one more block; none without."""
        if self.d3 is None:
            return {}
        distiller, student = self.d3.distiller, self.d3._loss.student
        parts: dict[str, tuple[Any, str]] = {
            "teacher, student": (distiller, "batch"),
            "terms": (distiller, "terms"),
            "backward, Adam": (student, "train"),
        }
        seconds = dict.fromkeys(parts, 0.0)

        def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **named: Any) -> Any:
                start = self.now()
                answer = function(*args, **named)
                seconds[name] += self.now() - start
                return answer

            return call

        with ExitStack() as patched:
            for name, (owner, method) in parts.items():
                function = timed(name, getattr(owner, method))
                patched.enter_context(patch.object(owner, method, function))
            self.block()
        return {name: taken / (self.steps + 1) for name, taken in seconds.items()}


@dataclass(frozen=True)
class BenchOptions(Options):
    """Arguments of :func:`bench`, the flags of ``d3 bench``; see :class:`CompareOptions`.

    Attributes:
        adapter: a host family, several separated by commas, or ``all``; their settings must have
            ``steps``. Not a training function, whose steps nobody can tell apart. Default: that of
            the settings file, or all.
        data: ``digits-DRAW``, ``digits`` (draw 0), or a folder with ``res101.mat`` and
            ``att_splits.mat``. In Python also a :class:`~d3_plugin.data.GZSLData`.
        host: override a setting of the baseline; may be repeated. In Python a dict of all changes.
        d3: override a setting of D³; may be repeated. In Python a dict of all changes.
        rounds: pairs of blocks; one more goes first and is not counted.
        threads: of the CPU.
        verbose: also show the profiler's table of operators.
    """

    command: ClassVar[str] = "bench"
    default_adapter: ClassVar[str] = "all"

    _: KW_ONLY
    rounds: Effort = 5
    threads: Effort = 1
    verbose: bool = False


@takes(BenchOptions)
def bench(options: BenchOptions) -> Costs:
    """Time a generator step with and without D³, and show where D³'s part goes.

    Blocks of steps of the baseline and of +D³ are timed in turn.

    The arguments are those of :class:`~d3_plugin.experiments.bench.BenchOptions`.

    Returns:
        The cost by host family; printed as a table.

    Raises:
        D3Error: bad arguments, or the training fails.
    """
    for name, family in options.families.items():
        if isinstance(family.build, TrainingFunction):
            raise InputError(f"bench needs a trainer, a HostFamily; {name} is a training function")
    before = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        families = options.families.items()
        return Costs({name: _cost(options, name, family) for name, family in families})
    finally:
        torch.set_num_threads(before)


def _cost(options: BenchOptions, name: str, family: HostFamily) -> Cost:
    data = options.problem.scaled()
    baseline = Timing(family, data, options.device, options.host_changes, None)
    with_d3 = replace(baseline, d3=options.d3_settings)
    try:
        timed, timed_d3 = _Timed(baseline), _Timed(with_d3)
        times = [(timed.block(), timed_d3.block()) for _ in range(options.rounds + 1)][1:]
        return Cost(
            baseline=statistics.median(a for a, _ in times),
            with_d3=statistics.median(b for _, b in times),
            ratio=statistics.median(b / a for a, b in times),
            baseline_memory=_peak_memory(baseline, options.threads),
            with_d3_memory=_peak_memory(with_d3, options.threads),
            phases=timed_d3.phases(),
            operators=_operators(timed_d3) if options.verbose else "",
        )
    except HostError as error:
        hooks = "in a family's plugin these arguments are the hook d3_synthesize_features"
        raise HostError(f"{name}: {error} ({hooks})") from error
    except D3Error:
        raise
    except Exception as error:  # as a rule, too large a network or batch
        kind = type(error).__name__
        raise FailedRunsError(f"{name} failed with these settings ({kind}: {error})") from error


def _operators(timed: _Timed) -> str:
    with profile() as profiler:
        timed.block()
    sort_by = f"self_{'cuda' if timed.device.type == 'cuda' else 'cpu'}_time_total"
    table: str = profiler.key_averages().table(sort_by=sort_by, row_limit=12)
    return table


def _peak_memory(timing: Timing, threads: int) -> int:
    """Peak memory of one block, in a process of its own: peaks never come down again."""
    from joblib.externals.loky import ProcessPoolExecutor  # which can send modules, as hooks are

    with ProcessPoolExecutor(1) as pool:
        peak: int = pool.submit(_one_block, timing, threads).result()
    return peak


def _one_block(timing: Timing, threads: int) -> int:
    torch.set_num_threads(threads)
    timed = _Timed(timing)
    timed.block()
    if timed.device.type == "cuda":
        return torch.cuda.max_memory_allocated(timed.device)
    status = Path("/proc/self/status")  # getrusage also counts the parent's peak, before exec
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
