"""A saved data set is there whole, or what was there is unchanged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from d3_plugin.data import GZSLData, load_mat_folder
from d3_plugin.errors import StorageError
from tests.data.mat_folders import ATT, RES
from tests.data.test_dataset import same


def tree(root: Path) -> dict[str, bytes | str]:
    """Everything below a folder: contents of files, targets of links."""
    return {
        str(path.relative_to(root)): os.readlink(path)
        if path.is_symlink()
        else (path.read_bytes() if path.is_file() else "folder")
        for path in sorted(root.rglob("*"))
    }


OLD = [RES, ATT, "res101.npz", "res101.h5", "att_splits.npz", "sent_splits.mat", "notes.txt"]


@pytest.mark.parametrize("name", OLD)
def test_a_folder_with_any_file_is_refused(toy_data: GZSLData, tmp_path: Path, name: str) -> None:
    """One of the two files with a new one beside it would load as a mixture."""
    folder = tmp_path / "toys"
    folder.mkdir()
    (folder / name).write_bytes(b"old")
    before = tree(tmp_path)
    with pytest.raises(StorageError, match="toys exists already; name a new folder"):
        toy_data.save(folder)
    assert tree(tmp_path) == before


def test_a_saved_data_set_is_not_overwritten(toy_data: GZSLData, tmp_path: Path) -> None:
    toy_data.save(tmp_path / "toys")
    before = tree(tmp_path)
    assert list(before) == ["toys", f"toys/{ATT}", f"toys/{RES}"]
    other = replace(toy_data, train_features=toy_data.train_features.flip(0))
    with pytest.raises(StorageError, match="exists already"):
        other.save(tmp_path / "toys")
    assert tree(tmp_path) == before


def test_an_empty_folder_is_filled(toy_data: GZSLData, tmp_path: Path) -> None:
    (tmp_path / "toys").mkdir()
    toy_data.save(tmp_path / "toys")
    assert same(load_mat_folder(tmp_path / "toys"), toy_data)


@pytest.mark.parametrize("place", ["file", "file/below", "dangling", "loop", "a\0b", "x" * 300])
def test_an_unusable_place(toy_data: GZSLData, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    before = tree(tmp_path)
    with pytest.raises(StorageError):
        toy_data.save(tmp_path / place)
    assert tree(tmp_path) == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_place(toy_data: GZSLData, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StorageError, match="Permission denied"):
            toy_data.save(tmp_path / "toys")
        assert tree(tmp_path) == {}
    finally:
        tmp_path.chmod(0o700)


def test_a_full_disk(toy_data: GZSLData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second file does not fit any more."""
    (tmp_path / "toys").mkdir()
    synced = 0

    def full(descriptor: int) -> None:
        nonlocal synced
        synced += 1
        if synced == 2:
            raise OSError(28, "No space left on device")

    before = tree(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device; what was there is unchanged"):
        toy_data.save(tmp_path / "toys")
    assert tree(tmp_path) == before


KILLED = """
import os, signal, sys
from d3_plugin.data import load
fsync = os.fsync
def kill(descriptor):
    fsync(descriptor)
    os.kill(os.getpid(), signal.SIGKILL)
os.fsync = kill
load("digits").save(sys.argv[1])
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_killed_save_is_cleaned_up_an_hour_later(toy_data: GZSLData, tmp_path: Path) -> None:
    folder = tmp_path / "toys"
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not folder.exists()
    temporary, _ = tree(tmp_path)  # a temporary folder with one file
    os.utime(tmp_path / temporary, (time.time() - 4000,) * 2)
    toy_data.save(folder)
    assert list(tree(tmp_path)) == ["toys", f"toys/{ATT}", f"toys/{RES}"]
    assert same(load_mat_folder(folder), toy_data)
