"""The adapter that CONTRIBUTING.md shows, typed into an empty folder, passes the kit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

from d3_plugin.testing import ADAPTER_CHECKS

PAGE = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"
FILE = re.compile(r"(?m)^```\w+\n# (\S+\.\w+)\n((?s:.*?))^```$")


def test_typed_from_the_page(tmp_path: Path) -> None:
    """Installed as ``pip install`` does it, into a folder of its own and without network."""
    installed = {found.name for found in distributions()}
    if missing := {"pip", "setuptools"} - installed:
        pytest.skip(f"{', '.join(sorted(missing))} not installed in this environment")
    source, target = tmp_path / "source", tmp_path / "installed"
    source.mkdir()
    files = dict(FILE.findall(PAGE.read_text("utf-8")))
    assert list(files) == ["my_gzsl.py", "my_gzsl_hooks.py", "pyproject.toml", "test_my_gzsl.py"]
    for name, content in files.items():
        (source / name).write_text(content, "utf-8")
    search = os.pathsep.join([str(target), *filter(None, [os.environ.get("PYTHONPATH")])])

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=source,
            env={**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    run("pip", "install", "--quiet", *offline, "--target", str(target), str(source))
    for name in ("my_gzsl.py", "my_gzsl_hooks.py"):
        (source / name).unlink()  # only the installed modules are left, found by the entry point
    assert f"{len(ADAPTER_CHECKS)} passed" in run("pytest", "-p", "no:cacheprovider")
