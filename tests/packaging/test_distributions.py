"""What the source distribution and the wheel hold."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
LITTER = shutil.ignore_patterns(
    ".git", ".path", ".*_cache", ".venv*", "__pycache__", "*.egg-info", "build", "dist", "runs"
)
BUILD = """
import setuptools.build_meta as backend
print(backend.build_sdist("dist"), backend.build_wheel("dist"), sep="\\n")
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], set[str]]:
    """Names of the files in the source distribution and in the wheel."""
    if "setuptools" not in {found.name for found in distributions()}:
        pytest.skip("setuptools is not installed in this environment")
    source = tmp_path_factory.mktemp("build") / "source"
    shutil.copytree(ROOT, source, ignore=LITTER)
    done = subprocess.run(
        [sys.executable, "-c", BUILD], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    sdist, wheel = (source / "dist" / name for name in done.stdout.splitlines()[-2:])
    with tarfile.open(sdist) as packed, zipfile.ZipFile(wheel) as zipped:
        names = {m.name.partition("/")[2] for m in packed.getmembers() if m.isfile()}
        return names, set(zipped.namelist())


def ours(*folders: str) -> set[str]:
    """Files of the repository in these folders."""
    return {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_source_distribution_is_the_repository(built: tuple[set[str], set[str]]) -> None:
    sdist, _ = built
    single = {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE"}
    single |= {"setup.cfg", "pyproject.toml", "MANIFEST.in"}
    folders = ("d3_plugin", "adapters", "docs", "examples", "tests", ".ci", ".github")
    missing = (single | ours(*folders)) - sdist
    assert not {name for name in missing if "/build/" not in name and ".egg-info" not in name}


def test_wheel_holds_the_packages_alone(built: tuple[set[str], set[str]]) -> None:
    _, wheel = built
    modules = {name for name in wheel if ".dist-info/" not in name}
    packages = ours("d3_plugin") | {
        name.replace("adapters", "d3_adapters", 1) for name in ours("adapters")
    }
    assert modules == packages
