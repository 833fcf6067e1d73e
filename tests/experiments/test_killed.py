"""``d3 compare`` killed without warning, again and again, loses and changes nothing."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from d3_plugin.__main__ import main
from d3_plugin.files import remove_stale
from d3_plugin.report import page
from tests.experiments.test_families_in_place import MODULE, TINY
from tests.experiments.tiny import ARGUMENTS, blank_picture, results
from tests.forked import FORKSERVER, start_server


def child(arguments: list[str], kill_at: tuple[str, int] | None) -> None:
    """The command, which may kill itself at the n-th call of a function of ``os``."""
    page._saved = blank_picture
    if kill_at is not None:
        name, calls = kill_at
        original: Callable[..., Any] = getattr(os, name)

        def counted(*args: Any) -> Any:
            nonlocal calls
            calls -= 1
            if calls == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args)

        setattr(os, name, counted)
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        with contextlib.redirect_stderr(null):
            status = main(arguments)
        os._exit(status)


def start(out: Path, *more: str, kill_at: tuple[str, int] | None = None) -> BaseProcess:
    process = FORKSERVER.Process(
        target=child, args=([*ARGUMENTS, "--out", str(out), *more], kill_at)
    )
    process.start()
    return process


def made_old(path: Path, hours: float) -> None:
    os.utime(path, (time.time() - 3600 * hours,) * 2)


def completed(out: Path) -> dict[str, Any]:
    """Start the command two hours later, let it end, and look at what it leaves."""
    for temporary in out.rglob(".*.tmp"):
        made_old(temporary, hours=2)
    process = start(out)
    process.join()
    assert process.exitcode == 0
    assert [path.name for path in out.rglob("*") if path.name.startswith(".")] == []
    assert len(list((out / "runs").iterdir())) == 4
    return results(out)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], float]:
    """The results of a comparison that nothing happens to, and the seconds it takes."""
    start_server()
    started = time.perf_counter()
    content = completed(tmp_path_factory.mktemp("whole"))
    return content, time.perf_counter() - started


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments(
    tmp_path: Path, whole: tuple[dict[str, Any], float], kills: int
) -> None:
    moments = random.Random(kills)
    comparison = 0
    while kills:
        process = start(tmp_path / str(comparison))
        process.join(moments.uniform(0, 0.6 * whole[1]))
        if process.is_alive():
            process.kill()
            process.join()
            kills -= 1
        else:  # faster than the moment: this one is complete
            assert completed(tmp_path / str(comparison)) == whole[0]
            comparison += 1
    assert completed(tmp_path / str(comparison)) == whole[0]


def test_killed_in_the_middle_of_writing(
    tmp_path: Path, whole: tuple[dict[str, Any], float]
) -> None:
    """With a temporary file on disk: of a run, of results.json, of report.html."""
    for kill_at in (("fsync", 2), ("replace", 3), ("replace", 5), ("fsync", 3)):
        process = start(tmp_path, kill_at=kill_at)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert [path for path in tmp_path.rglob(".*.tmp") if path.is_file()], kill_at
    assert completed(tmp_path) == whole[0]


def workers_of(process: BaseProcess) -> list[int]:
    """Its worker processes, as soon as there are two."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("needs Linux's /proc to find the workers")
    workers: list[int] = []
    while len(workers) < 2:
        time.sleep(0.05)
        assert process.is_alive()
        commands = {int(c): Path(f"/proc/{c}/cmdline") for c in children.read_text().split()}
        workers = [c for c, path in commands.items() if b"LokyProcess" in path.read_bytes()]
    return workers


def test_workers_end_with_a_parent_that_takes_nothing_from_them(
    tmp_path: Path, whole: tuple[dict[str, Any], float]
) -> None:
    """One has made a run; the other, stopped before it had imported anything, gets none."""
    process = start(tmp_path, "--jobs", "2")
    assert process.pid is not None
    workers = workers_of(process)
    os.kill(workers[1], signal.SIGSTOP)
    while not list(tmp_path.glob("runs/*.npz")):
        time.sleep(0.05)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        os.kill(process.pid, number)
    process.join()
    os.kill(workers[1], signal.SIGCONT)
    assert ended(workers)
    assert completed(tmp_path) == whole[0]


KILLS_ITSELF = """def fit(self):
        import os, pathlib, signal, time
        with open("begun", "a") as begun:
            begun.write("x")
        if pathlib.Path("begun").stat().st_size == 3:
            while not list(pathlib.Path("out").glob("runs/*.npz")):
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_worker_is_one_error_and_finished_runs_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kills_itself.py").write_text(MODULE.replace("def fit(self):", KILLS_ITSELF))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    command = [*TINY, "--set", "weight=0.1", "--adapter", "kills_itself:family", "--out", "out"]
    assert main([*command, "--jobs", "2"]) == 2
    error = capsys.readouterr().err
    assert error.count("d3: the worker processes failed (TerminatedWorkerError: ") == 1
    assert "Start the same command again" in error
    assert 1 <= len(list(tmp_path.glob("out/runs/*.npz"))) < 4
    assert main(command) == 0


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
def test_a_worker_ends_with_its_parent_whatever_it_does() -> None:
    """In the middle of a call that takes for ever."""
    script = (
        "import os, subprocess, sys\n"
        "child = 'import time; from d3_plugin.experiments.parallel import _end_with as end;"
        " end(%d); print(1, flush=True); time.sleep(600)' % os.getpid()\n"
        "child = subprocess.Popen([sys.executable, '-c', child], stdout=subprocess.PIPE)\n"
        "child.stdout.read(1)\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    assert Path(f"/proc/{worker}").exists()
    parent.kill()
    parent.wait()
    assert ended([worker])


def ended(processes: list[int]) -> bool:
    """Whether all of them are gone within a minute, which a busy machine may need."""
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{process}").exists() for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def test_two_at_once_in_one_folder(tmp_path: Path, whole: tuple[dict[str, Any], float]) -> None:
    both = [start(tmp_path), start(tmp_path)]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert completed(tmp_path) == whole[0]


def test_temporary_files_of_an_hour_are_stale(tmp_path: Path) -> None:
    (tmp_path / ".d3-a.tmp").touch()
    (tmp_path / ".d3-folder.tmp").mkdir()
    (tmp_path / ".d3-folder.tmp" / "res101.mat").touch()
    kept = [".d3-new.tmp", ".mine.tmp", "results.json"]
    for name in kept:
        (tmp_path / name).touch()
    for path in tmp_path.iterdir():
        made_old(path, hours=0.9 if path.name == ".d3-new.tmp" else 1.1)
    remove_stale(tmp_path)
    assert sorted(os.listdir(tmp_path)) == kept
