"""Prints the table of docs/performance.md: ``python -m tests.benchmarks.table``; Linux only.

One thread. Time is CPU time, which other work on the machine lengthens little, the best of a few
passes; the forms take turns, so that a busy minute hits all of them. Memory is the peak of the
resident set (VmHWM, set back before) in one pass of a forked process, above what it was before the
pass: inputs are not counted, gradients are. Freed memory goes back to the system there
(M_MMAP_THRESHOLD), or a pass could live on what an earlier one left behind.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import shutil
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from tests.benchmarks.cases import Step, make

PASSES = {506: 15, 2048: 5, 8192: 1}
NAMES = ["product", "eager", "eager released", "compiled"]
M_MMAP_THRESHOLD = -3


def cpu_seconds(step: Step) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def resident(field: str) -> float:
    """MB, of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def one_pass(answer: Connection, name: str, rows: int) -> None:
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 65536)
    make(name, 16)()  # libraries
    step = make(name, rows)
    if name == "compiled":
        step()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    taken = cpu_seconds(step)
    answer.send((taken, resident("VmHWM") - before))


def forked(name: str, rows: int) -> tuple[float, float]:
    """CPU seconds and extra MB of one pass in a process of its own."""
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe(duplex=False)
    process = fork.Process(target=one_pass, args=(there, name, rows))
    process.start()
    there.close()
    seconds, mb = here.recv()
    process.join()
    print(f"{name} {rows}: {seconds:.3f} s, {mb:.0f} MB", file=sys.stderr, flush=True)
    return seconds, mb


def in_turns(names: list[str], rows: int) -> dict[str, float]:
    steps = {name: make(name, rows) for name in names}
    for name, step in steps.items():
        if rows < 8192 or name == "compiled":
            step()  # compilation, first touch of memory
    taken = [{n: cpu_seconds(s) for n, s in steps.items()} for _ in range(PASSES[rows])]
    best = {name: min(times[name] for times in taken) for name in names}
    print(rows, best, file=sys.stderr, flush=True)
    return best


def main() -> None:
    torch.set_num_threads(1)
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # no worker processes to fork
    names = NAMES if shutil.which("g++") else NAMES[:-1]
    memory = {(name, rows): forked(name, rows)[1] for rows in PASSES for name in names}
    seconds = {rows: in_turns(names, rows) for rows in PASSES}
    long, large = forked("repeated", 506)
    print("| B | form | time / product | extra memory, MB | faster than repeated | memory, of it |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, rows in memory:
        taken, mb = seconds[rows][name], memory[name, rows]
        row = [str(rows), name, f"{taken / seconds[rows]['product']:.2f}", f"{mb:.0f}"]
        row += [f"{long / taken:.0f}x", f"1/{large / mb:.0f}"] if rows == 506 else ["", ""]
        print("|", " | ".join(row), "|")
    print(f"| 506 | repeated | {long / seconds[506]['product']:.0f} | {large:.0f} | 1x | 1 |")


if __name__ == "__main__":
    main()
