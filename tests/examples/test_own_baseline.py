"""The file of docs/own_baseline.md, typed into an empty folder, is compared by its command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "own_baseline.md"


def test_typed_from_the_page(tmp_path: Path) -> None:
    text = PAGE.read_text("utf-8")
    ((name, code),) = re.findall(r"(?m)^```python\n# (\S+\.py)\n((?s:.*?))^```$", text)
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 45
    (tmp_path / name).write_text(code, "utf-8")
    (command,) = re.findall(r"(?m)^d3 (compare .*) --data .*$", text)
    small = ["--data", "digits-1", "--seeds", "1", "--cuts", "1", "--draws", "1", "--out", "out"]
    small += ["--host", "steps=60", "--set", "embedding_dim=8", "--set", "teacher_epochs=1"]
    done = subprocess.run(
        [sys.executable, "-m", "d3_plugin", *command.split(), *small],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    summary = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))["summary"]
    assert {"baseline", "d3"} <= summary["mine"].keys()
