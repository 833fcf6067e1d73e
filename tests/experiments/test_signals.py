"""Signals at random moments of ``d3 compare``, ``tune`` and ``ablate`` lose and change nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.experiments.tiny import FLAGS

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")

COMMANDS = {
    "compare": ["--seeds", "1"],
    "ablate": ["--seeds", "1"],
    "tune": ["--trials", "2", "--cuts", "2"],
}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGSTOP)


def start(command: str, out: Path) -> subprocess.Popen[bytes]:
    """The command, in a session of its own."""
    for number in (signal.SIGINT, signal.SIGHUP):  # a shell's & or nohup has them ignored
        signal.signal(number, signal.default_int_handler)
    more = [*COMMANDS[command], "--data", "digits-2", *FLAGS, "--jobs", "2", "--out", str(out)]
    return subprocess.Popen(
        [sys.executable, "-m", "d3_plugin", command, *more],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def alive(session: int) -> dict[int, str]:
    """Processes of a session that have not ended, with their command lines."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, its = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(its) == session and state not in "ZX":
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
    return found


def workers(session: int) -> list[int]:
    """Those that make runs."""
    return sorted(process for process, line in alive(session).items() if "LokyProcess" in line)


def wait_for_end(process: subprocess.Popen[bytes], what: str) -> None:
    """Fail if anything of its session is alive in ten seconds."""
    deadline = time.monotonic() + 10
    while process.poll() is None or alive(process.pid):
        if time.monotonic() > deadline:
            left = alive(process.pid)
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"{what}: alive after 10 s: {left}")
        time.sleep(0.1)


def send(process: subprocess.Popen[bytes], number: int, target: str, moment: float) -> bool:
    """Send the signal after ``moment`` seconds; False if there is nothing to send it to."""
    if target == "worker":  # counted from when there are some
        while process.poll() is None and len(workers(process.pid)) < 2:
            time.sleep(0.05)
    try:
        process.wait(moment)
        return False
    except subprocess.TimeoutExpired:
        pass
    receiver = process.pid
    if target == "worker":
        found = workers(process.pid)
        if not found:
            return False
        receiver = found[0]
    deliver = os.killpg if target == "group" else os.kill
    try:
        deliver(receiver, number)
        if number == signal.SIGSTOP:
            time.sleep(1)
            deliver(receiver, signal.SIGCONT)
    except ProcessLookupError:
        return False
    return True


TIMES = ("seconds", "finished")


def without_times(content: Any) -> Any:
    """JSON without what a clock says."""
    if isinstance(content, dict):
        return {k: without_times(v) for k, v in content.items() if k not in TIMES}
    return [without_times(each) for each in content] if isinstance(content, list) else content


def left(out: Path) -> dict[str, Any]:
    """Every file under ``out``; of JSON files the content, too."""
    return {
        str(path.relative_to(out)): without_times(json.loads(path.read_bytes()))
        if path.suffix == ".json"
        else None
        for path in out.rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_signal_to_every_process(tmp_path: Path, command: str) -> None:
    """45 signals in all, 15 for each command."""
    began = time.monotonic()
    process = start(command, tmp_path / "whole")
    assert process.wait() == 0
    length = time.monotonic() - began
    wait_for_end(process, "whole")
    whole = left(tmp_path / "whole")
    assert sum(name.endswith(".json") for name in whole) == 1

    draw = random.Random(command)
    for number in SIGNALS:
        for target in ("parent", "worker", "group"):
            hit, tries = False, 0
            while not hit:
                out = tmp_path / f"{number.name}-{target}-{tries}"
                moment = draw.uniform(0, length * (0.5 if target == "worker" else 0.95))
                what = f"{command}, {number.name} to {target} after {moment:.2f} s"
                process = start(command, out)
                hit = send(process, number, target, moment)
                if not hit or number == signal.SIGSTOP:
                    assert process.wait(120) == 0, what
                wait_for_end(process, what)
                tries += 1
            process = start(command, out)
            assert process.wait(120) == 0, what
            wait_for_end(process, what)
            assert left(out) == whole, what
