"""The page of hypotheses shows what the committed runs say, judged by its own rule."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("t", DOCS / "tools" / "make_experiments.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(training: str, data: str, cut: int, seed: int = 0, **ausuc: float) -> dict[str, Any]:
    scores = {name: {"ausuc": value} for name, value in ausuc.items()}
    where = {"host": "fclswgan", "data": data, "cut": cut, "seed": seed}
    return {**where, "training": training, "scores": scores, "share": 0.1, "seconds": 1}


def test_the_page_is_that_of_the_committed_runs(script: ModuleType) -> None:
    page = (DOCS / "experiments.md").read_text(encoding="utf-8")
    assert script.filled(page, script.kept()) == page


def test_pairs_share_data_cut_and_seed(script: ModuleType) -> None:
    runs = [run("students", "cub50", 0, seed, host=0.5 + seed, ref=0.6 + seed) for seed in (0, 1)]
    runs += [run("share3", "cub50", 0, 1, host=1.8), run("share3", "cub50", 1, host=9.0)]
    place = ("fclswgan", "cub50", 0)
    assert script.differences(runs, "share3") == {(*place, 1): pytest.approx(0.3)}, "one pair"
    expected = {(*place, seed): pytest.approx(0.1) for seed in (0, 1)}
    assert script.differences(runs, "students", "ref") == expected


@pytest.mark.parametrize(
    ("name", "gains", "expected"),
    [
        ("graded", [0.01, 0.011, 0.012], "passes"),
        ("graded", [0.01, -0.01, 0.012], "fails"),  # the interval has 0
        ("graded", [0.011, 0.011, -0.0031], "fails"),
        ("narrow", [0.001, -0.001, 0.0], "adopt"),
        ("narrow", [0.02, 0.02, -0.003], "leave"),  # one data set loses too much
        ("narrow", [-0.001, -0.0011, -0.0012], "leave"),  # little, but surely
        ("semantic", [0.01], "open"),
    ],
)
def test_verdicts(script: ModuleType, name: str, gains: list[float], expected: str) -> None:
    """Cuts are what the interval is over, not seeds."""
    made = {
        (host, data, cut, seed): gain
        for host in ("fclswgan", "diffusion")
        for data, gain in zip(script.DATA, gains, strict=False)
        for cut in range(3 if len(gains) > 1 else 1)
        for seed in range(3)
    }
    columns = [("fclswgan", data) for data in script.DATA]
    assert script.verdict(name, made) == expected
    if len(gains) > 1:
        assert script.judged_row(name, made, columns)[-1] == expected
        del made["fclswgan", "cub50", 2, 0]
        assert script.judged_row(name, made, columns)[-1] == f"({expected})", "not all pairs"
