"""The benchmarks run: what they measure on a large or lent machine works here on a small scale."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import scipy.io
import torch

from d3_plugin.data import load
from tests.benchmarks import device as device_checks
from tests.benchmarks import growth_of_phases, rehearsal

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("check", device_checks.CHECKS, ids=lambda check: check.__name__)
def test_checks_of_a_device(check, device: torch.device) -> None:
    check(device)


def test_a_check_that_fails_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(device: torch.device) -> None:
        raise AssertionError("other bits")

    monkeypatch.setattr(device_checks, "CHECKS", (broken,))
    monkeypatch.setattr(device_checks, "bench", lambda *_, **__: "the table")
    assert device_checks.main(["cpu"]) == 1
    printed = capsys.readouterr().out
    assert "FAILED  broken" in printed
    assert "other bits" in printed
    assert "the table" in printed


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("bash"), reason="a shell script")
def test_dry_run_of_the_script_for_a_gpu() -> None:
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    script = ["bash", str(ROOT / "tests" / "benchmarks" / "gpu.sh"), "cpu"]
    done = subprocess.run(script, env={"PATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") == len(device_checks.CHECKS)
    assert "peak MiB" in done.stdout


def test_made_up_data_have_the_sizes_of_the_table(tmp_path: Path) -> None:
    size = rehearsal.Size(60, 20, 12, seen=5, unseen=3, attributes=7, features=9)
    rehearsal.write_folder(tmp_path, size)
    data = load(tmp_path)
    parts = data.train_labels, data.test_seen_labels, data.test_unseen_labels
    assert tuple(map(len, parts)) == size[:3]
    assert (len(data.seen_classes), len(data.unseen_classes)) == (5, 3)
    assert (data.attributes.shape[1], data.feature_dim) == (7, 9)


@pytest.mark.parametrize("name", rehearsal.SIZES)
def test_sizes_are_those_of_the_public_files(shared_data: Path, name: str) -> None:
    file = scipy.io.loadmat(shared_data / "att_splits" / f"{name}.mat")
    size = rehearsal.SIZES[name]
    sets = ("trainval_loc", "test_seen_loc", "test_unseen_loc")
    assert tuple(file[key].size for key in sets) == size[:3]
    assert file["att"].shape == (size.attributes, size.seen + size.unseen)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_rehearsal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A hundredth of APY's rows; of every host family."""
    size = rehearsal.SIZES["APY"]._replace(trainval=200, test_seen=60, test_unseen=60, features=64)
    monkeypatch.setitem(rehearsal.SIZES, "APY", size)
    threads = torch.get_num_threads()
    try:
        rehearsal.main(["APY", "--steps", "2"])
    finally:
        torch.set_num_threads(threads)
    header, _, *lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split(" | ")[1] for line in lines] == list(rehearsal.FAMILIES)
    assert {line.count("|") for line in (header, *lines)} == {len(rehearsal.HEADER) + 1}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_growth_of_phases() -> None:
    seconds, memory = growth_of_phases.forked(6, 60, 8)
    assert len(seconds) == len(memory) == len(growth_of_phases.PHASES)
    assert min(seconds) > 0
    assert growth_of_phases.exponent((10, 20), (3.0, 12.0)) == pytest.approx(2)
