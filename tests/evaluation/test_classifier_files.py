"""Whatever is in a file: ``Classifier.load`` runs nothing of it; it loads right or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import d3_plugin
from d3_plugin import DataError
from d3_plugin.data import GZSLData
from d3_plugin.evaluation import Classifier
from d3_plugin.evaluation.captured import _OPERATIONS
from tests.evaluation import hostile
from tests.toys import ScriptHost

HOSTILE = dict(hostile.files())
WATCHED = """
import sys
from pathlib import Path
from d3_plugin import DataError
from d3_plugin.evaluation import Classifier

good, *hostile = sorted(Path(sys.argv[1]).iterdir())
Classifier.load(good)
seen, listening = [], False

def hook(event, args):
    if not listening:
        return
    writes = event == "open" and (args[1] not in ("r", "rb") or args[2] & 3)
    bad = ("os.system", "os.exec", "os.posix_spawn", "subprocess", "socket", "exec", "compile")
    bad += ("import", "ctypes", "os.remove", "os.rename", "os.mkdir", "shutil", "pickle", "marshal")
    if writes or event.startswith(bad):
        seen.append((event, args))

sys.addaudithook(hook)
for path in hostile:
    listening = True
    try:
        Classifier.load(path)
    except DataError:
        listening = False
    else:
        seen.append(("loaded", path.name))
sys.exit("\\n".join(map(repr, seen)) or None)
"""


def test_the_smallest_right_file(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(hostile.right())
    rows = np.eye(2, dtype=np.float32)
    np.testing.assert_array_equal(Classifier.load(tmp_path / "c").scores(rows), rows)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "c"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(DataError, match=r"c (is no classifier of Classifier.save|is damaged)"):
        Classifier.load(path)


def test_hostile_files_run_nothing(tmp_path: Path) -> None:
    """Python's own audit events: no command, import, socket, or file that is written."""
    (tmp_path / "0").write_bytes(hostile.right())
    for number, content in enumerate(HOSTILE.values(), 1):
        (tmp_path / f"{number:03}").write_bytes(content)
    command = [sys.executable, "-c", WATCHED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_a_file_can_do_changes_nothing_and_is_not_random() -> None:
    operations = {name: each for name, each in _OPERATIONS.items() if name.startswith("aten.")}
    assert len(operations) > 130
    for operation in operations.values():
        schema = operation._schema
        assert not schema.is_mutable
        assert torch.Tag.nondeterministic_seeded not in operation.tags
        kinds = {str(argument.type) for argument in schema.arguments}
        assert not any("Generator" in kind for kind in kinds)
        assert {str(each.type) for each in schema.returns} <= {"Tensor", "List[Tensor]", "int"}


@pytest.mark.parametrize("content", [None, b"", b"GIF89a", b"\n\n", b"d3_plugin classifier 2 x\n"])
def test_other_files(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "c").write_bytes(content)
    with pytest.raises(DataError, match="c is"):
        Classifier.load(tmp_path / "c")
    with pytest.raises(DataError, match="is no classifier"):
        Classifier.load(tmp_path)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    torch.save({"format": "d3_plugin classifier 1", "name": "x"}, tmp_path / "c")
    with pytest.raises(DataError, match="c is no classifier"):
        Classifier.load(tmp_path / "c")


def test_a_newer_file(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(hostile.right().replace(b"classifier 2", b"classifier 3", 1))
    with pytest.raises(DataError, match="c is in format 3, and this d3_plugin reads format 2: ins"):
        Classifier.load(tmp_path / "c")


@pytest.mark.parametrize("number", [300, pytest.param(3000, marks=pytest.mark.slow)])
def test_a_changed_file_never_gives_other_scores(
    toy_data: GZSLData, tmp_path: Path, number: int
) -> None:
    """Bytes are flipped, overwritten, cut out, put in and swapped."""
    path, rows = tmp_path / "c", toy_data.test_unseen_features
    made = d3_plugin.classifier(generator=ScriptHost(toy_data).net_g, data=toy_data)
    made.save(path)
    whole, expected = path.read_bytes(), made.scores(rows, scaled=True)
    rng, refused = np.random.default_rng(0), 0
    for attempt in range(number):
        content, place = bytearray(whole), int(rng.integers(len(whole)))
        if attempt % 3 == 0:  # where there is most to break
            place = int(rng.integers(200))
        length = int(rng.integers(1, 40))
        how = attempt % 5
        if how == 0:
            content[place] ^= 1 << int(rng.integers(8))
        elif how == 1:
            content[place : place + length] = rng.bytes(length)
        elif how == 2:
            del content[place : place + length]
        elif how == 3:
            content[place:place] = rng.bytes(length)
        else:
            content[place:] = content[place:][::-1]
        path.write_bytes(content)
        try:
            found = Classifier.load(path).scores(rows, scaled=True)
        except DataError:
            refused += 1
        else:
            assert torch.equal(found, expected)
    assert refused > 0.95 * number
