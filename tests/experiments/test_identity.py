"""A run is identified by the code that made it: edits that can change numbers are noticed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

from d3_plugin.experiments import code, source_digests
from d3_plugin.experiments.families import find_family
from tests.experiments.test_families_in_place import MODULE
from tests.experiments.tiny import D3

FAMILY = MODULE.replace("import torch\n", "import torch\nfrom helper import SCALE\n", 1).replace(
    "return self.generator(", "return SCALE * self.generator("
)
PLUGIN = """
from d3_plugin import hookimpl

FACTOR = 1.0

@hookimpl
def d3_extra_terms(batch):
    return {"small": FACTOR * batch.features.square().mean()}
"""
FILES = {"family.py": FAMILY, "helper.py": '"""Help."""\nSCALE = 1.0\n', "plugin.py": PLUGIN}
COMMAND = ["compare", "--adapter", "family:family", "--data", "digits-2", "--seeds", "1", "-q"]
COMMAND += ["--cuts", "1", "--draws", "1", "--out", "out"]
for _name, _value in D3.items():
    COMMAND += ["--set", f"{_name}={_value}"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a family, an installed plugin, and finished runs."""
    folder = tmp_path_factory.mktemp("made")
    for name, content in FILES.items():
        (folder / name).write_text(content)
    info = folder / "terms-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: terms\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[d3_plugin]\nterms = plugin\n")
    done = d3(folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "here")


def d3(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    path = ["import sys; sys.path.insert(0, '.')", "from d3_plugin.__main__ import main"]
    path += ["from d3_plugin.report import page", "page._saved = lambda _: {'svg': b'<svg >'}"]
    program = "; ".join([*path, f"sys.exit(main({[*COMMAND, *more]}))"])
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def edit(file: Path, old: str, new: str) -> None:
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


EDITS = [
    ("family.py", "loss.backward()", "(2 * loss).backward()", "module family"),
    ("helper.py", "1.0", "0.5", "module helper"),
    ("plugin.py", "FACTOR = 1.0", "FACTOR = 2.0", "module plugin"),
    ("terms-1.0.dist-info/METADATA", "1.0", "1.1", "plugin terms terms 1.0 -> terms 1.1"),
    ("family.py", "steps: int = 3", "steps: int = 4", "host: steps was 3, is now 4"),
]


@pytest.mark.parametrize("edits", [EDITS, EDITS[1:2]], ids=["all", "of a helper module"])
def test_edits_are_refused_and_named(here: Path, edits: list[tuple[str, str, str, str]]) -> None:
    for file, old, new, _ in edits:
        edit(here / file, old, new)
    refused = d3(here, "--seeds", "2")
    assert refused.returncode == 2
    named = ", ".join(says for *_, says in edits)
    assert f"made with other code or settings: {named}; use another --out, or --rerun" in (
        refused.stderr
    )
    assert "4 finished runs" in refused.stderr
    assert len(list((here / "out" / "runs").glob("*.npz"))) == 4


def test_comments_docstrings_and_new_settings_without_effect_are_taken(here: Path) -> None:
    edit(here / "helper.py", '"""Help."""', '"""More help."""  # and a comment')
    edit(here / "family.py", "    def fit(self):", '    def fit(self):\n        """Train."""\n')
    edit(here / "family.py", "    steps: int = 3", "    steps: int = 3\n    unused: float = 0.0")
    before = {file: file.stat().st_mtime_ns for file in (here / "out" / "runs").iterdir()}
    taken = d3(here)
    assert taken.returncode == 0, taken.stderr
    assert {file: file.stat().st_mtime_ns for file in (here / "out" / "runs").iterdir()} == before


def test_rerun_makes_only_the_refused_ones_again(here: Path) -> None:
    runs = here / "out" / "runs"
    first = {file.name: file.read_bytes() for file in runs.iterdir()}
    done = d3(here, "--set", "student_lr=0.01", "--rerun")
    assert done.returncode == 0, done.stderr
    (aside,) = runs.glob("aside-*")
    old = {file.name: file.read_bytes() for file in aside.iterdir()}
    assert old.keys() == {name for name in first if name.endswith("-d3.npz")}
    assert old.items() <= first.items()
    for name, content in first.items():
        assert ((runs / name).read_bytes() == content) == (name not in old)


def test_imports_inside_functions_and_of_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    files = {
        "top_one.py": "def build():\n    import pack_one.deep\n    import json, torch\n",
        "pack_one/__init__.py": "",
        "pack_one/deep.py": "from . import near\nfrom .near import x\n",
        "pack_one/near.py": "import importlib\nx = importlib.import_module('beside_one')\n",
        "beside_one.py": "1 +",
        "unrelated_one.py": "",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    import top_one

    found = source_digests.module_digests([top_one.build], None)
    wanted = {"top_one", "pack_one", "pack_one.deep", "pack_one.near", "beside_one"}
    assert found.keys() == wanted


def test_code_without_a_file() -> None:
    """Of a notebook: what functions compile to, and the values that they use."""

    def digest(text: str) -> dict[str, str]:
        cell = types.ModuleType("a_notebook")
        exec(text, vars(cell))
        return source_digests.module_digests([cell.build], None)

    text = "S = 1.0\ndef scale(): return S\ndef build(): return scale()\n"
    assert digest(text) == digest(f"'''A title.'''\nunused = 2\n{text}")
    others = [text.replace("1.0", "2.0"), text.replace("return S", "return 2 * S")]
    assert len({str(digest(each)) for each in [text, *others]}) == 3


def test_built_in_families_are_ours() -> None:
    family = find_family("fclswgan")
    made = code.code_of(family.name)
    assert made.ours
    assert {"d3_adapters.gan", "d3_adapters.training", code.OWN} < made.modules.keys()
