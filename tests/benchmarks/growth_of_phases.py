"""Prints how attach, step and evaluate grow: ``python -m tests.benchmarks.growth_of_phases``.

A generator of two layers, made-up rows, one of classes, rows and width grown and the others kept.
Half of the classes are unseen, with 10 synthetic rows each for the default final classifier; the
teacher gets two epochs. Every cell is a forked process of one thread: CPU seconds, and the peak of
the resident set in GB, rows of the data included. Exponents are between neighbouring cells. Linux
only.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from functools import cache
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from d3_plugin import D3Settings, attach
from d3_plugin.data import GZSLData
from tests.benchmarks.table import resident
from tests.toys import PlainGenerator

SMALL = {"classes": 100, "rows": 10_000, "width": 1024}
GROWN = {
    "classes": [100, 500, 2_000],
    "rows": [1_000, 10_000, 100_000],
    "width": [512, 1024, 2048],
}
ATTRIBUTES = 64
PHASES = ("attach", "step", "evaluate")


def problem(classes: int, rows: int, width: int) -> GZSLData:
    """Rows around a mean for each class; the first half of the classes is seen."""
    seen, unseen = torch.arange(classes).split([classes // 2, classes - classes // 2])
    labels = torch.arange(rows) % len(seen)
    means = torch.rand(len(seen), width)
    features = torch.randn(rows, width).mul_(0.3).add_(means[labels]).clamp_(0, 1)
    tests = {"seen": seen.repeat(2), "unseen": unseen.repeat(2)}
    return GZSLData(
        "made up",
        features,
        labels,
        means[tests["seen"]],
        tests["seen"],
        torch.rand(len(tests["unseen"]), width),
        tests["unseen"],
        attributes=torch.rand(classes, ATTRIBUTES),
        seen_classes=seen,
        unseen_classes=unseen,
        class_names=tuple(map(str, range(classes))),
    )


def one_cell(answer: Connection, classes: int, rows: int, width: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = problem(classes, rows, width)
    generator = PlainGenerator(ATTRIBUTES, ATTRIBUTES, width)
    optimizer = torch.optim.Adam(generator.parameters())
    seconds, memory = [], []

    def note(start: float, times: int = 1) -> None:
        seconds.append((time.process_time() - start) / times)
        memory.append(resident("VmHWM") / 1024)
        Path("/proc/self/clear_refs").write_text("5")

    Path("/proc/self/clear_refs").write_text("5")
    start = time.process_time()
    d3 = attach(
        generator=generator,
        optimizer=optimizer,
        data=data,
        settings=D3Settings(teacher_epochs=2),
        synthetic_per_class=10,
    )
    note(start)
    d3.loss()
    start = time.process_time()
    for _ in range(10):
        d3.loss()
    note(start, times=10)
    start = time.process_time()
    d3.evaluate()
    note(start)
    answer.send((seconds, memory))


@cache
def forked(*sizes: int) -> tuple[list[float], list[float]]:
    """CPU seconds and GB of each phase."""
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe(duplex=False)
    process = fork.Process(target=one_cell, args=(there, *sizes))
    process.start()
    there.close()
    found: tuple[list[float], list[float]] = here.recv()
    process.join()
    return found


def exponent(grown: tuple[int, int], found: tuple[float, float]) -> float:
    """k of a quantity that grows like size**k."""
    return math.log(found[1] / found[0]) / math.log(grown[1] / grown[0])


def main() -> None:
    print(f"| grown | size | {' | '.join(f'{phase}, s | GB' for phase in PHASES)} |")
    print("|" + " --- |" * 8)
    for name, values in GROWN.items():
        seconds = []
        for value in values:
            taken, memory = forked(*{**SMALL, name: value}.values())
            seconds.append(taken)
            cells = [f"{s:.3g} | {gb:.2f}" for s, gb in zip(taken, memory, strict=True)]
            print(f"| {name} | {value:,} | {' | '.join(cells)} |", flush=True)
        for phase, times in zip(PHASES, zip(*seconds, strict=True), strict=True):
            pairs = zip(pairwise(values), pairwise(times), strict=True)
            exponents = ", ".join(f"{exponent(*pair):.1f}" for pair in pairs)
            print(f"{name}, {phase}: exponents {exponents}", flush=True)


if __name__ == "__main__":
    main()
