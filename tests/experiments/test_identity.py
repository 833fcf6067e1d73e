"""A run is identified by the code that made it: edits that can change numbers are noticed."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from d3_plugin import D3Settings, InputError
from d3_plugin.experiments import code, source_digests
from d3_plugin.experiments.families import find_family
from d3_plugin.experiments.run_identity import Run
from d3_plugin.experiments.store import RunStore
from tests.experiments.test_families_in_place import MODULE
from tests.experiments.tiny import outcome

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
METADATA = "Metadata-Version: 2.1\nName: terms\nVersion: 1.0\n"
INFO = "terms-1.0.dist-info/METADATA"
EDITS = [
    ("family.py", "loss.backward()", "(2 * loss).backward()", "module family"),
    ("helper.py", "1.0", "0.5", "module helper"),
    ("plugin.py", "FACTOR = 1.0", "FACTOR = 2.0", "module plugin"),
    (
        "terms-1.0.dist-info/METADATA",
        "1.0",
        "1.1",
        "plugins: terms was terms 1.0, is now terms 1.1",
    ),
    ("family.py", "steps: int = 3", "steps: int = 4", "host: steps was 3, is now 4"),
]


class Folder:
    """A folder with a family, an installed plugin and finished runs, as a new process sees it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, RunStore(folder)
        for name, content in FILES.items():
            (folder / name).write_text(content)
        info = folder / "terms-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(METADATA)
        (info / "entry_points.txt").write_text("[d3_plugin]\nterms = plugin\n")
        for run in self.runs():
            self.store.save(replace(outcome(0), run=run))

    def runs(self, **d3: Any) -> list[Run]:
        code._installed.cache_clear()
        for name in ("helper", "plugin", "family"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        family = find_family("family:family")
        host = asdict(family.settings())
        return [
            Run("regression", "digits-2", "", 0, v, "test", host, d3, 1, "cpu", family=family)
            for v, d3 in {"baseline": None, "d3": D3Settings(**d3)}.items()
        ]

    def edit(self, file: str, old: str, new: str) -> None:
        content = (self.folder / file).read_text()
        assert old in content
        (self.folder / file).write_text(content.replace(old, new))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # edits within a second look the same
    yield Folder(tmp_path)
    code._installed.cache_clear()
    for name in ("helper", "plugin", "family"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("edits", [EDITS, EDITS[1:2]], ids=["all", "of a helper module"])
def test_edits_are_refused_and_named(here: Folder, edits: list[tuple[str, str, str, str]]) -> None:
    for file, old, new, _ in edits:
        here.edit(file, old, new)
    with pytest.raises(InputError) as refused:
        here.store.load_all(here.runs())
    named = ", ".join(says for *_, says in edits)
    message = str(refused.value)
    assert f"made with other code or settings: {named}; use another --out, or --rerun" in message
    assert message.startswith("2 finished runs")


def test_comments_docstrings_and_new_settings_without_effect_are_taken(here: Folder) -> None:
    here.edit("helper.py", '"""Help."""', '"""More help."""  # and a comment')
    here.edit("family.py", "    def fit(self):", '    def fit(self):\n        """Train."""\n')
    here.edit("family.py", "    steps: int = 3", "    steps: int = 3\n    unused: float = 0.0")
    assert len(here.store.load_all(here.runs())) == 2


def test_rerun_makes_only_the_refused_ones_again(here: Folder) -> None:
    file = here.store.path(here.runs()[1])
    content = file.read_bytes()
    checkpoint = here.store.checkpoint(here.runs()[1:])
    checkpoint.touch()
    taken = here.store.load_all(here.runs(student_lr=0.01), rerun=True)
    assert [*taken] == ["regression-seed0-test-baseline"]
    (aside,) = here.store.folder.glob("aside-*")
    assert (aside / file.name).read_bytes() == content
    assert sorted(each.name for each in aside.iterdir()) == [checkpoint.name, file.name]


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
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [""])  # the current folder, as in a notebook
    assert source_digests._place("unrelated_one")[0] is not None


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
    assert {"d3_adapters.gan", "d3_adapters.training", "d3_plugin"} < made.modules.keys()
