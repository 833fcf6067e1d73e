"""Workflow files are valid, and the commands of the one to copy pass and fail as they should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "ci" / "d3-comparison.yml"
FILES = [EXAMPLE, *sorted((ROOT / ".github" / "workflows").glob("*.yml"))]
FAMILY = """
from d3_adapters.fclswgan import FCLSWGANSettings, FCLSWGANTrainer
from d3_plugin import HostFamily

family = HostFamily("mine", "ours", FCLSWGANSettings, FCLSWGANTrainer)
"""
FAST = {"steps=200": "steps=4", "--seeds 2": "--seeds 1", "--jobs 2": "--jobs 1"}


def steps() -> dict[str, str]:
    """The named commands of the workflow to copy."""
    yaml = pytest.importorskip("yaml")
    job = yaml.safe_load(EXAMPLE.read_text("utf-8"))["jobs"]["compare"]
    return {step["name"]: step["run"] for step in job["steps"] if "run" in step}


def compare(folder: Path, changes: dict[str, str], adapter: str) -> Any:
    """The command of the workflow, but for ``changes``."""
    command = steps()["Compare"]
    for old, new in changes.items():
        assert old in command
        command = command.replace(old, new)
    program = Path(sys.executable).with_name("d3")
    if not program.exists():
        pytest.skip("the command d3 is not installed in this environment")
    variables = {"OMP_NUM_THREADS": "1", "D3_ADAPTER": adapter}
    return subprocess.run(
        ["bash", "-e", "-c", command],
        cwd=folder,
        env={**os.environ, **variables, "PATH": f"{program.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_workflows_follow_the_schema(path: Path) -> None:
    pytest.importorskip("check_jsonschema")
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    done = subprocess.run(
        [*check, "vendor.github-workflows", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_install_names_an_extra_that_exists() -> None:
    assert steps().keys() == {"Install", "Compare"}
    assert '"d3-plugin[compare]"' in steps()["Install"]
    assert "\ncompare =" in (ROOT / "setup.cfg").read_text("utf-8")


@pytest.mark.parametrize(
    ("adapter", "name", "changes"),
    [
        ("my_module:family", "mine", FAST),
        pytest.param("fclswgan", "fclswgan", {}, marks=pytest.mark.slow),
    ],
)
def test_the_comparison_passes_and_fails(
    adapter: str, name: str, changes: dict[str, str], tmp_path: Path
) -> None:
    """Of a family in the user's repository, and as it is written."""
    (tmp_path / "my_module.py").write_text(FAMILY, "utf-8")
    passed = compare(tmp_path, {**changes, "< -0.10": "< -1"} if changes else {}, adapter)
    assert passed.returncode == 0, passed.stderr
    results = json.loads((tmp_path / "runs" / "ci" / "results.json").read_text("utf-8"))
    change = results["summary"][name]["d3"]["metrics"]["ausuc"]["difference"]["mean"]
    assert (tmp_path / "runs" / "ci" / "report.html").exists()
    failed = compare(tmp_path, {**changes, "< -0.10": "< 1"}, adapter)  # trains nothing again
    assert failed.returncode == 1, failed.stderr
    (line,) = [line for line in failed.stderr.splitlines() if "d_ausuc < 1" in line]
    assert f"{change:.4g}" in line
