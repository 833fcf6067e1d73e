"""Prints the table of docs/performance.md: ``python -m tests.benchmarks.table``.

Every measurement is a process of its own with one thread. Time is the CPU time of that process, the
best of a few passes, which other work on the machine lengthens little. Memory is the resident set's
peak in a single pass (Linux's VmHWM, set back before it) above what it was before the pass: inputs
are not counted, gradients are. Freed memory goes back to the system there, by glibc's
MALLOC_MMAP_THRESHOLD_, or a pass could live on what its warm-up left behind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

from tests.benchmarks.cases import make

ROWS = {506: 15, 2048: 7, 8192: 2}  # B, and how many passes
NAMES = ["product", "eager", "eager released", "compiled"]
ROUNDS = 3


def resident(field: str) -> float:
    """MB, of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def measure_seconds(name: str, rows: int) -> float:
    step = make(name, rows)
    passes = ROWS[rows] if name != "repeated" else 1
    if passes > 1:
        step()  # compilation, first touch of memory
    times = []
    for _ in range(passes):
        start = time.process_time()
        step()
        times.append(time.process_time() - start)
    return min(times)


def measure_mb(name: str, rows: int) -> float:
    make(name, rows if name == "compiled" else 16)()  # libraries and compilation
    step = make(name, rows)
    if name == "compiled":
        step()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    step()
    return resident("VmHWM") - before


def in_process(what: str, name: str, rows: int) -> float:
    arguments = [sys.executable, "-m", __spec__.name, what, name, str(rows)]
    environment = os.environ | ({"MALLOC_MMAP_THRESHOLD_": "65536"} if what == "mb" else {})
    return float(subprocess.check_output(arguments, env=environment).splitlines()[-1])


def main() -> None:
    names = NAMES if shutil.which("g++") else [n for n in NAMES if n != "compiled"]
    cells = [(name, rows) for rows in ROWS for name in names]
    memory = {cell: in_process("mb", *cell) for cell in cells}
    seconds: dict[tuple[str, int], float] = {}
    for _ in range(ROUNDS):  # interleaved: a busy minute hits every form
        for cell in cells:
            taken = in_process("seconds", *cell)
            seconds[cell] = min(taken, seconds.get(cell, taken))
    long, large = (in_process(what, "repeated", 506) for what in ("seconds", "mb"))
    print("| B | form | time / product | extra memory, MB | faster than repeated | memory, of it |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, rows in cells:
        taken, mb = seconds[name, rows], memory[name, rows]
        row = [str(rows), name, f"{taken / seconds['product', rows]:.2f}", f"{mb:.0f}"]
        row += [f"{long / taken:.0f}x", f"1/{large / mb:.0f}"] if rows == 506 else ["", ""]
        print("|", " | ".join(row), "|")
    print(f"| 506 | repeated | {long / seconds['product', 506]:.0f} | {large:.0f} | 1x | 1 |")
    print({**seconds, "repeated": long}, file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        torch.set_num_threads(1)
        measure = {"seconds": measure_seconds, "mb": measure_mb}[sys.argv[1]]
        print(measure(sys.argv[2], int(sys.argv[3])))
    else:
        main()
