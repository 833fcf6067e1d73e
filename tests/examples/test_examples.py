"""The examples run, and the script's three lines are three."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run_here(
    script: str,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> str:
    """What the script prints, without a warning, in this process."""
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    out, error = capsys.readouterr()
    assert "Warning" not in error
    return out


@pytest.mark.parametrize(
    ("script", "arguments", "last_line"),
    [
        ("clswgan_script.py", ["--nepoch", "1", "--ngh", "32"], r"^U \d"),
        ("three_lines.py", ["--steps", "20"], r"^\+D³ +U \d"),
        *(
            pytest.param(
                *("three_lines.py", ["--adapter", adapter, "--steps", "10"], r"^\+D³ +U \d"),
                marks=pytest.mark.slow,
            )
            for adapter in ("tfvaegan", "diffusion")
        ),
    ],
)
def test_example_runs(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    script: str,
    arguments: list[str],
    last_line: str,
) -> None:
    shown = run_here(script, arguments, monkeypatch, capsys)
    assert re.search(last_line, shown.strip().splitlines()[-1])


@pytest.mark.slow
def test_ddp_example_runs_in_two_processes() -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, *torchrun, str(EXAMPLES / "ddp_training.py"), "--steps", "10"],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
            check=False,
        )
        if "terminate called without an active exception" not in done.stderr:
            break  # otherwise gloo's threads aborted at exit, which a busy machine may see
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"U \d.*", done.stdout.strip()), "only rank 0 prints"
    warned = [line for line in done.stderr.splitlines() if "D3Warning" in line]
    assert all("far below D³'s student" in line for line in warned), "a generator of 10 steps is"


def test_script_needs_three_lines_and_nothing_else() -> None:
    source = (EXAMPLES / "clswgan_script.py").read_text().splitlines()
    body = source[next(i for i, line in enumerate(source) if line.startswith("import")) :]
    marked = [line for line in body if line.endswith("# D3")]
    unmarked = [line for line in body if "d3" in line.lower() and line not in marked]
    assert len(marked) == 3
    # Besides: the built-in data, which a user's script reads from its own files, and the print.
    assert unmarked == ["from d3_plugin.data import load", "print(d3.evaluate())"]


LOAD = """
import sys
sys.modules["d3_adapters"] = None  # not to be imported
import numpy as np
from d3_plugin.evaluation import Classifier
test = np.load("test_rows.npz")
scores = Classifier.load("classifier.pt").scores(test["features"])
np.testing.assert_allclose(scores, test["scores"], rtol=1e-6, atol=1e-6)
"""


def test_arrays_to_a_saved_classifier_in_25_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another process loads it and gives the same scores."""
    assert len((EXAMPLES / "own_arrays.py").read_text("utf-8").splitlines()) <= 25
    monkeypatch.chdir(tmp_path)
    shown = run_here("own_arrays.py", [], monkeypatch, capsys)
    assert re.match(r"U \d.*  S \d.*  H \d.*  AUSUC \d", shown)
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == done.stdout == ""
