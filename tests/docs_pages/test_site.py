"""The documentation site builds without a warning and has all public names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import d3_plugin

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
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
    notebook = (tmp_path / "examples" / "quickstart.html").read_text("utf-8")
    assert notebook.count("data:image/png;base64,") == 2
    pages = [path.read_text("utf-8") for path in (tmp_path / "docs" / "api").glob("*.html")]
    assert max(map(len, pages)) < 200_000, "a page per module"
    documented = set(re.findall(r'id="d3_plugin\.(?:\w+\.)*(\w+)"', "".join(pages)))
    assert set(d3_plugin.__all__) - documented <= {"__version__", "hookimpl"}
    index = (tmp_path / "searchindex.js").read_text("utf-8")
    assert "attach" in json.loads(index[index.index("{") : index.rindex("}") + 1])["titleterms"]
