"""The documentation site builds without a warning and has all public names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import d3_plugin

ROOT = Path(__file__).resolve().parents[2]


def test_strict_build(tmp_path: Path) -> None:
    for library in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(library)
    words = ["-q", "-W", "--keep-going", "-d", tmp_path / "cache", "-c", "docs", ".", tmp_path]
    command = [sys.executable, "-m", "sphinx", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    start = (tmp_path / "index.html").read_text("utf-8")
    assert 'href="docs/scaling.html"' in start
    assert 'href="examples/hosts/fclswgan.html"' in start
    reference = (tmp_path / "docs" / "api.html").read_text("utf-8")
    names = set(d3_plugin.__all__) - {"__version__", "hookimpl"}
    assert not {name for name in names if f'id="d3_plugin.{name}"' not in reference}
