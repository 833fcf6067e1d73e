"""A third party's distribution is found by its metadata, in workers too; a broken one is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import distributions, version
from pathlib import Path

import pytest

DISTRIBUTIONS = {found.name for found in distributions()}
SOURCE = Path(__file__).resolve().parents[2] / "examples" / "third_party_plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example installed as pip installs it, beside its metadata."""
    # By metadata and not by import: setuptools and a distutils that is loaded already do not mix.
    needed = ["pip", "setuptools"]
    if "setuptools" in DISTRIBUTIONS and int(version("setuptools").split(".")[0]) < 71:
        needed.append("wheel")
    if missing := [name for name in needed if name not in DISTRIBUTIONS]:
        pytest.skip(f"{', '.join(missing)} not installed in this environment")
    folder = tmp_path_factory.mktemp("third_party")
    copy, target = folder / "source", folder / "installed"
    litter = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    shutil.copytree(SOURCE, copy, ignore=litter)  # pip builds in the source folder
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    no_network = ["--no-index", "--disable-pip-version-check"]
    done = run([*pip, *no_network, "--target", str(target), str(copy)])
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A folder with a distribution whose plugin module raises on import."""
    metadata = tmp_path / "broken_host-0.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-host\nVersion: 0.1\n")
    (metadata / "entry_points.txt").write_text("[d3_plugin]\nbad = broken_hooks\n")
    (tmp_path / "broken_hooks.py").write_text("raise RuntimeError('no such driver')\n")
    return tmp_path


def run(
    command: list[str], *paths: Path, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run with ``paths`` in front of the module search path."""
    search = [*map(str, paths), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=600,
        cwd=cwd,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(search),
            "PYTHONIOENCODING": "utf-8",
            "OMP_NUM_THREADS": "1",
        },
        check=False,
    )


def d3(*arguments: str, paths: tuple[Path, ...]) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-m", "d3_plugin", *arguments], *paths)


@pytest.mark.slow
def test_compare_ends_with_a_report(installed: Path, tmp_path: Path) -> None:
    """With two jobs: the workers are processes of their own and must find the plugin as well."""
    done = d3(
        *("compare", "--adapter", "cvae", "--data", "digits", "--seeds", "1", "--draws", "1"),
        *("--jobs", "2", "--host", "steps=3", "--host", "hidden=8", "--host", "latent=2"),
        *("--set", "embedding_dim=8", "--set", "teacher_epochs=1", "--out", str(tmp_path)),
        paths=(installed,),
    )
    assert done.returncode == 0, done.stderr
    assert "cvae on digits, 1 seed\n" in done.stdout
    assert "cvae" in (tmp_path / "report.html").read_text()
    assert len(list(tmp_path.glob("runs/cvae-seed0-*.npz"))) == 4


@pytest.mark.slow
def test_its_own_tests_pass(installed: Path, tmp_path: Path) -> None:
    for test in SOURCE.glob("test_*.py"):
        shutil.copy(test, tmp_path)  # away from the source, so that the installed package is tested
    pytest_command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA"]
    done = run([*pytest_command, str(tmp_path)], installed, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED test_adapter.py::test_adapter[check_family]" in done.stdout


TWICE = """
from d3_plugin.__main__ import main
from d3_plugin.hooks.manager import make_manager

main(["adapters"])
make_manager(strict=True)
"""


@pytest.mark.slow
def test_broken_distribution_is_named_and_the_rest_works(installed: Path, broken: Path) -> None:
    """With a warning; strict makes it an error."""
    done = run([sys.executable, "-c", TWICE], installed, broken)
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == ["cvae", "diffusion", "fclswgan", "tfvaegan"]
    expected = "plugin 'bad' of distribution 'broken-host' is left out"
    said, _, error = done.stderr.partition("Traceback")
    assert f"D3Warning: {expected}: RuntimeError: no such driver" in said
    assert "PluginError: plugin 'bad' of distribution 'broken-host'" in error
    assert done.returncode == 1
