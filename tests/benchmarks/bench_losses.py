"""pytest-benchmark: ``pytest tests/benchmarks/bench_losses.py --benchmark-group-by=param:rows``.

Not part of the default run. ``python -m tests.benchmarks.table`` gives the table of
docs/performance.md, whose ratios come from interleaved runs.
"""

from __future__ import annotations

import shutil

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from tests.benchmarks.cases import make

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "cl"))), reason="inductor needs a C++ compiler"
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("rows", [506, 2048, 8192])
@pytest.mark.parametrize(
    "name",
    ["product", "eager", "eager released", pytest.param("compiled", marks=needs_compiler)],
)
def test_forward_and_backward(benchmark: BenchmarkFixture, name: str, rows: int) -> None:
    rounds = 10 if rows < 8192 else 3
    benchmark.pedantic(make(name, rows), rounds=rounds, warmup_rounds=1)


def test_by_repetition(benchmark: BenchmarkFixture) -> None:
    """Some 2.1 GB a copy, several copies: it needs about 12 GB."""
    benchmark.pedantic(make("repeated", 506), rounds=1)
