"""Prints the curves of docs/scaling.md: ``python -m tests.benchmarks.growth``; Linux only.

One step of D³ without the host: teacher and student on B rows, half of them synthetic, every term,
backward to the rows and the student, its Adam. One of B, C, D grows and the others stay. Every cell
is a forked process of one thread; time is CPU time, the best of three steps after a first one, and
memory the peak of the resident set above what it was before teacher and student were made.
"""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection

import torch
from torch import nn

from d3_plugin import D3Settings
from d3_plugin.distillation.distiller import Distiller
from d3_plugin.distillation.networks import EmbeddingClassifier
from d3_plugin.distillation.student_trainer import StudentTrainer
from tests.benchmarks.table import resident

SMALL = {"B": 128, "C": 1000, "D": 2048}
GROWN = {"B": [128, 512, 2048, 8192], "C": [1000, 5000, 21000], "D": [512, 2048, 8192]}
SEEN_SHARE = 20  # one class in so many is seen, as with 1,000 of ImageNet-21K


def one_cell(answer: Connection, rows: int, classes: int, width: int) -> None:
    torch.set_num_threads(1)
    before = resident("VmRSS")
    settings = D3Settings()
    seen = torch.arange(classes // SEEN_SHARE)
    teacher = EmbeddingClassifier(width, settings.embedding_dim, len(seen)).requires_grad_(False)
    distiller = Distiller(teacher, classes, seen, settings, torch.randn(1000, len(seen)))
    update = StudentTrainer(distiller, nn.Linear(1, 1), settings.student_lr)
    synthetic, real = torch.rand(rows // 2, width), torch.rand(rows // 2, width)
    labels = torch.cat(
        [
            torch.randint(len(seen), classes, (rows // 2,)),
            torch.randint(len(seen), (rows // 2,)),
        ]
    )
    taken = []
    for _ in range(4):
        start = time.process_time()
        synthetic = synthetic.detach().requires_grad_()
        terms = distiller.terms(distiller.batch(synthetic, real, labels))
        update.train(torch.stack(list(terms.values())).sum(), synthetic, terms)
        taken.append(time.process_time() - start)
    answer.send((min(taken[1:]), resident("VmHWM") - before))


def forked(rows: int, classes: int, width: int) -> tuple[float, float]:
    """CPU seconds and MB of one cell."""
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe(duplex=False)
    process = fork.Process(target=one_cell, args=(there, rows, classes, width))
    process.start()
    there.close()
    seconds, mb = here.recv()
    process.join()
    return seconds, mb


def main() -> None:
    print("| B | C | D | CPU seconds | MB |\n| --- | --- | --- | --- | --- |")
    for grown, values in GROWN.items():
        for value in values:
            size = {**SMALL, grown: value}
            seconds, mb = forked(*size.values())
            cells = [*map(str, size.values()), f"{seconds:.3f}", f"{mb:.0f}"]
            print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
