"""Workflow files are valid, and the commands of the one to copy pass and fail as they should."""

from __future__ import annotations

import configparser
import json
import os
import re
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
EXAMPLE = ROOT / "examples" / "ci" / "d3-comparison.yml"
FILES = [EXAMPLE, *sorted((ROOT / ".github" / "workflows").glob("*.yml"))]
FAMILY = """
from dataclasses import dataclass

from d3_adapters.fclswgan import FCLSWGANSettings, FCLSWGANTrainer
from d3_plugin import HostFamily


@dataclass(frozen=True)
class Settings:
    rounds: int = 4  # no setting is named steps


def build(data, settings, seed, device):
    small = dict(hidden=8, synthetic_per_class=10, classifier_epochs=1)
    return FCLSWGANTrainer(data, FCLSWGANSettings(steps=settings.rounds, **small), seed, device)


family = HostFamily("mine", "ours", Settings, build)
"""
PATH = os.environ["PATH"]
FAST = ["--seeds", "1", "--jobs", "1", "--cuts", "1"]
FAST += ["--set", "embedding_dim=8", "--set", "teacher_epochs=1"]


def job() -> dict[str, Any]:
    """The one of the workflow to copy."""
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load(EXAMPLE.read_text("utf-8"))["jobs"]["compare"]


def steps() -> dict[str, str]:
    """Its named commands."""
    return {step["name"]: step["run"] for step in job()["steps"] if "run" in step}


def compare(program: Path, folder: Path, old: str, new: str, variables: dict[str, str]) -> Any:
    """The command of the workflow with another condition; ``d3`` is this program."""
    command = steps()["Compare"]
    assert old in command
    return subprocess.run(
        ["bash", "-e", "-c", command.replace(old, new)],
        cwd=folder,
        env={**os.environ, **job()["env"], **variables, "PATH": f"{program.parent}:{PATH}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_workflows_follow_the_schema() -> None:
    pytest.importorskip("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema"]
    command += ["--builtin-schema", "vendor.github-workflows", *map(str, FILES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def requirements(section: str, name: str) -> dict[str, str]:
    """Lowest versions in setup.cfg by distribution."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", "utf-8")
    return dict(line.split(">=") for line in setup[section][name].split() if ">=" in line)


def test_install_is_from_a_clone_with_an_extra_that_exists() -> None:
    assert steps().keys() == {"Install", "Compare"}
    assert '"${D3_SOURCE}[compare]"' in steps()["Install"]
    assert "jinja2" in requirements("options.extras_require", "compare")


def test_everything_that_a_comparison_writes_is_kept() -> None:
    (upload,) = [step for step in job()["steps"] if step.get("name") == "Keep the report"]
    kept = upload["with"]["path"].split()
    assert kept == [f"runs/ci/{name}" for name in ("*.html", "*.json", "table.*", "figures")]


def test_lowest_versions_are_those_of_setup_cfg() -> None:
    """The job installs exactly what install_requires and the extra compare allow at least."""
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    commands = [step.get("run", "") for step in workflow["jobs"]["lowest-versions"]["steps"]]
    installed = dict(re.findall(r"([\w-]+)==([\d.]+)", " ".join(commands)))
    lowest = requirements("options", "install_requires")
    lowest |= requirements("options.extras_require", "compare")
    for name, version in lowest.items():
        assert f"{installed[name]}.".startswith(f"{version}."), name


def check(folder: Path, name: str, status: int, error: str) -> None:
    """That the comparison failed for an AUSUC whose change is not below 1, and said so."""
    results = json.loads((folder / "runs" / "ci" / "results.json").read_text("utf-8"))
    change = results["summary"][name]["d3_chosen"]["metrics"]["ausuc"]["difference"]["mean"]
    assert (folder / "runs" / "ci" / "report.html").exists()
    assert status == 1, error
    (line,) = [line for line in error.splitlines() if "d_ausuc < 1" in line]
    assert f"{change:.4g}" in line


def test_the_comparison_passes_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a family in the user's repository, whose settings have other names.

    The arguments are those that bash makes of the workflow's command.
    """
    (tmp_path / "my_module.py").write_text(FAMILY, "utf-8")
    program = tmp_path / "bin" / "d3"
    program.parent.mkdir()
    program.write_text("#!/usr/bin/env bash\nprintf '%s\\n' \"$@\"\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_module", raising=False)
    monkeypatch.setattr(page, "_saved", blank_picture)
    monkeypatch.setattr(softmax, "STEPS", 0)
    monkeypatch.setattr(softmax, "EPOCHS", 10)

    def status(condition: str) -> int:
        variables = {"D3_ADAPTER": "my_module:family", "D3_HOST": ""}
        asked = compare(program, tmp_path, "< -0.10", condition, variables)
        assert (asked.returncode, asked.stderr) == (1, ""), "that of d3"
        return main([*asked.stdout.splitlines(), *FAST])

    passed = status("< -1")
    assert passed == 0, capsys.readouterr().err
    capsys.readouterr()
    failed = status("< 1")  # trains nothing again
    check(tmp_path, "mine", failed, capsys.readouterr().err)


@pytest.mark.slow
def test_the_comparison_as_written_passes_and_fails(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("d3")
    if not program.exists():
        pytest.skip("the command d3 is not installed in this environment")
    passed = compare(program, tmp_path, "< -0.10", "< -0.10", {})
    assert passed.returncode == 0, passed.stderr
    failed = compare(program, tmp_path, "< -0.10", "< 1", {})
    check(tmp_path, "fclswgan", failed.returncode, failed.stderr)
