"""The command line: help, misspelt words, progress, completion, ``d3 data``, places to write to."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from d3_plugin import files
from d3_plugin.__main__ import main
from d3_plugin.data import digest
from d3_plugin.errors import DataError
from d3_plugin.experiments import parallel
from d3_plugin.experiments.flags import setting_lines
from d3_plugin.experiments.parallel import Workers, make_runs, run_all
from d3_plugin.experiments.run_identity import Run
from d3_plugin.experiments.store import RunStore
from tests.data.mat_folders import Variables, make
from tests.experiments.tiny import ARGUMENTS


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("usage: d3 [-h] [--version] COMMAND ...")
    assert "compare" in error


@pytest.mark.parametrize(
    ("word", "hint"), [("comapre", "; did you mean 'compare'?"), ("", "; there are compare, ")]
)
def test_misspelt_commands(word: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([word])
    assert caught.value.code == 2
    assert f"d3: error: no command {word!r}{hint}" in capsys.readouterr().err


def test_settings_of_ones_own_are_explained() -> None:
    @dataclass
    class Settings:
        """Of a training function.

        Attributes:
            steps: generator steps.
        """

        steps: int = 600
        lr: float = field(default=0.1, metadata={"help": "of Adam."})
        width: int = 8

    lines = setting_lines(Settings)
    assert lines == ["steps=600: generator steps.", "lr=0.1: of Adam.", "width=8"]


def test_completion(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of commands, flags, choices and files, by the shell itself."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    words = {
        "d3 comp": ["compare", "completion"],
        "d3 tune --tri": ["--trials"],
        "d3 compare --preset rel": ["released"],
        "d3 data setup.c": ["setup.cfg"],
    }
    for line, expected in words.items():
        asked = (
            f"COMP_WORDS=({line}); COMP_CWORD={len(line.split()) - 1}; _shtab_d3\n"
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        command = ["bash", "-c", f"{script}\n{asked}"]
        root = Path(__file__).parents[1]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
        assert done.stdout.split() == expected, done.stderr
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "zsh"]) == 2
    assert "pip install 'd3-plugin[completion]'" in capsys.readouterr().err


def test_data_shows_what_a_folder_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("D3_DATA", str(tmp_path))
        assert main(["data", "birds"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "birds: 2 seen and 2 unseen classes",
        "  train        8 rows, 3 to 5 per class",
        "  test_seen    4 rows, 1 to 3 per class",
        "  test_unseen  6 rows, 3 to 3 per class",
        "  features     width 3, values in 0.5 to 2900, norms 200 to 2900",
        "  attributes   width 2, values in -25 to 50, norms 10.05 to 55.9",
        "  class order  attributes find the own mean of 0 of 2 seen classes, each left out in turn "
        "(about 1 by chance)",
        "  unseen       ape, eel",
        f"  digest       {digest(str(folder))}",
    ]
    assert printed.err == ""


def test_data_shows_warnings_and_problems(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def poor(res: Variables, att: Variables) -> None:
        att["att"][:, 0] = 0

    folder = make(tmp_path, poor)
    assert main(["data", str(folder)]) == 0
    error = capsys.readouterr().err
    assert error.startswith("d3: D3Warning: data set 'birds': attributes cannot distinguish")
    assert error.count("\n") == 1, "no line of code"
    (folder / "att_splits.mat").unlink()
    (folder / "res101.mat").write_text("nothing")
    assert main(["data", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "2 problems" in error
    assert "att_splits.mat is missing" in error


def test_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGUMENTS, "-q", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("fclswgan on digits-2, 1 seed\n")
    assert str(tmp_path / "results.json") in out


def test_progress_inside_a_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line per tenth, by the process that trains."""
    shared: dict[str, Any] = {"host": {"steps": 20}, "d3": None, "draws": 1, "device": "cpu"}
    runs = [Run("a", "digits", "", 0, variant, "test", **shared) for variant in ("one", "two")]

    def trained(runs: list[Run], checkpoint: None, on_step: Any) -> None:
        for step in (1, 9, 10, 11, 20):
            on_step(step)
        raise DataError("stopped there")

    monkeypatch.setattr(parallel, "execute", trained)
    made = make_runs(runs, [run.identity() for run in runs], None, verbose=True)
    assert made.problems == dict.fromkeys([run.name for run in runs], "DataError: stopped there")
    name = f"{runs[0].name} and 1 more"
    shown = [f"{name:<40} step {step} of 20" for step in (9, 10, 20)]
    assert capsys.readouterr().err.splitlines() == shown


@pytest.mark.slow
def test_verbose_shows_the_steps_of_workers(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    command = [sys.executable, "-m", "d3_plugin", *ARGUMENTS, "-v", "--jobs", "2", "--out"]
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    process = subprocess.Popen(
        [*command, str(tmp_path), "--host", "steps=3000"], stdout=subprocess.DEVNULL, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while not re.search(rb"and 1 more +step \d+ of 3000", shown):
        shown += os.read(ours, 10_000)
    process.send_signal(signal.SIGINT)
    process.wait()
    os.close(ours)
    assert list((tmp_path / "runs").glob(".*")) == []


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        parallel, "execute", lambda runs, *_: pytest.fail(f"{runs[0].name} was made")
    )


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("command", ["compare", "ablate", "tune"])
@pytest.mark.parametrize(
    ("blocked", "message"),
    [
        ("out", "out/runs/.probe: Not a directory; what was there is unchanged"),
        ("out/runs", "cannot write"),
    ],
)
def test_files_that_cannot_be_written_are_found_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, blocked: str, message: str
) -> None:
    path = tmp_path / blocked
    path.parent.mkdir(exist_ok=True)
    path.write_text("a file")
    arguments = [command, "--data", "digits-2", "--out"]
    assert main([*arguments, str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    if blocked == "out":
        assert main([*arguments, str(path / "deeper")]) == 2
        assert "cannot write" in capsys.readouterr().err


def test_a_folder_that_is_writable_below_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(path: Path, content: bytes) -> None:
        if path.parent == tmp_path:
            raise PermissionError(13, "Permission denied")
        original(path, content)

    original = files._write_synced
    monkeypatch.setattr(files, "_write_synced", write)
    with pytest.raises(OSError, match="Permission denied"):
        run_all([], RunStore(tmp_path), Workers())
