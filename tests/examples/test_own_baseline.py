"""The files of docs/own_baseline.md, typed into an empty folder, are compared by its commands."""

from __future__ import annotations

import importlib
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from d3_plugin.__main__ import main
from d3_plugin.evaluation import softmax
from d3_plugin.report import page
from tests.experiments.tiny import blank_picture

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "own_baseline.md").read_text("utf-8")
FILES = dict(re.findall(r"(?m)^```python\n# (\S+\.py)\n((?s:.*?))^```$", TEXT))
SMALL = ["--seeds", "1", "--cuts", "1", "--draws", "1", "--out", "out"]
SMALL += ["--set", "embedding_dim=8", "--set", "teacher_epochs=1"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current one, with the files; their modules are forgotten afterwards.

    Comparisons draw nothing.
    """
    monkeypatch.setattr(page, "_saved", blank_picture)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name, code in FILES.items():
        (tmp_path / name).write_text(code, "utf-8")
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    importlib.invalidate_caches()
    return tmp_path


@pytest.mark.parametrize(("file", "lines"), [("my_loop.py", 40), ("my_baseline.py", 50)])
def test_typed_from_the_page(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    file: str,
    lines: int,
) -> None:
    monkeypatch.setattr(softmax, "STEPS", 0)
    monkeypatch.setattr(softmax, "EPOCHS", 10)
    assert len(FILES[file].splitlines()) <= lines
    module = file.removesuffix(".py")
    (command,) = re.findall(rf"(?m)^d3 (compare .*{module}:.*) --data .*$", TEXT)
    arguments = [*command.split(), "--data", "digits-1", "--host", "steps=20", *SMALL]
    assert main(arguments) == 0
    assert "Warning" not in capsys.readouterr().err
    summary = json.loads((folder / "out" / "results.json").read_text("utf-8"))["summary"]
    ((name, rows),) = summary.items()
    assert name in ("mine", "my_loop.train")
    assert {"baseline", "d3"} <= rows.keys()
    assert rows["d3_host"]["metrics"]["ausuc"]["difference"]["mean"] == 0


def test_own_vae_in_60_lines(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Arrays, loop, D³, save, load in a second process, compare."""
    code, script = FILES["own_vae.py"], folder / "own_vae.py"
    assert code == (ROOT / "examples" / "own_vae.py").read_text("utf-8")
    assert len(code.splitlines()) <= 60
    short = code.replace("range(300)", "range(30)").replace("seeds=3", 'seeds=1, progress="none"')
    script.write_text(short, "utf-8")

    def run(*arguments: str) -> tuple[dict[str, Any], str]:
        monkeypatch.setattr(sys, "argv", ["own_vae.py", *arguments])
        return runpy.run_path(str(script), run_name="__main__"), capsys.readouterr().out

    names, shown = run()
    assert re.match(r"U \d.*  S \d.*  H \d.*  AUSUC \d", shown)
    second = [sys.executable, "own_vae.py", "load"]
    loaded = subprocess.run(second, capture_output=True, text=True, timeout=300, check=True).stdout
    assert loaded == f"{names['d3'].classifier().predict(names['features'][::50])}\n"
    _, shown = run("compare")
    assert "+D³ (defaults)" in shown
    assert Path("runs/own_vae/report.html").exists()
