"""Runs on other machines: a real Dask cluster on this one, and what can be wrong with one."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from d3_adapters.fclswgan import FCLSWGANSettings
from d3_plugin import D3Settings, InputError, MissingExtraError
from d3_plugin.__main__ import main
from d3_plugin.errors import FailedRunsError
from d3_plugin.experiments import machines
from d3_plugin.experiments.machines import check_device, dask_cluster
from d3_plugin.experiments.parallel import Workers, make_runs, run_all
from d3_plugin.experiments.plan import plan
from d3_plugin.experiments.run_identity import Run
from d3_plugin.experiments.store import RunStore
from tests.data.mat_folders import make
from tests.experiments.test_families_in_place import MODULE, TINY
from tests.experiments.tiny import ARGUMENTS, results

COMMAND = [*ARGUMENTS, "--seeds", "2"]
"""Four trainings, for two workers of four threads each."""

HOST = socket.gethostname()


def planned(data: str = "digits-2", digest: str = "") -> list[Run]:
    host = asdict(FCLSWGANSettings())
    first = Run("fclswgan", data, digest, 0, "", "test", host, None, 1, "cpu")
    return plan([first], 1, {"baseline": None, "d3": D3Settings()}, validated=[0])


def refusal(scheduler: str | None, error: type[Exception]) -> str:
    with pytest.raises(error) as caught, dask_cluster(scheduler):
        pytest.fail("runs were begun")
    return str(caught.value)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of this machine, one thread a run as on a cluster."""
    out = tmp_path_factory.mktemp("here")
    assert main([*COMMAND, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=4, processes=True, dashboard_address=":0"
    ) as started:
        yield started.scheduler_address


def test_dask_gives_the_results_of_this_machine(
    here: Path, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random streams belong to a process: trainings in a worker's threads would mix them."""
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster)
    monkeypatch.setitem(__import__("dask").config.config, "scheduler-address", cluster)
    assert main([*COMMAND, "--backend", "dask", "--out", str(tmp_path)]) == 0
    assert results(tmp_path) == results(here)


def test_dask_takes_a_family_by_its_import_path(
    cluster: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "family_for_dask.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    command = [
        *TINY,
        "--set",
        "weight=0.1",
        "--adapter",
        "family_for_dask:family",
        "--backend",
        "dask",
    ]
    command += ["--scheduler", cluster, "--out", "out"]
    assert main(command) == 2
    assert f"{HOST}: ModuleNotFoundError: No module named" in capsys.readouterr().err
    with __import__("distributed").Client(cluster) as client:
        client.upload_file("family_for_dask.py")
    assert main(command) == 0
    assert len(list(Path("out/runs").glob("regression-*.npz"))) == 4


def test_dask_workers_say_what_they_lack_before_any_work(cluster: str, tmp_path: Path) -> None:
    runs = planned(data="no/such/folder", digest="0123")
    with pytest.raises(FailedRunsError, match="data folder no/such/folder is missing"):
        run_all(runs, RunStore(tmp_path), Workers(backend="dask", scheduler=cluster))


def test_dask_without_workers() -> None:
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    with distributed.LocalCluster(n_workers=0, dashboard_address=":0") as cluster:
        assert "has no worker yet" in refusal(cluster.scheduler_address, InputError)


def test_no_dask_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens, something else listens, and no address at all."""
    pytest.importorskip("distributed", reason="Dask is not installed")
    monkeypatch.setattr(machines, "_PATIENCE", 1.0)
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        assert f"no Dask scheduler answers at {address}" in refusal(address, InputError)
    assert "no Dask scheduler answers" in refusal(address, InputError)
    assert "no Dask scheduler answers at nonsense" in refusal("nonsense", InputError)
    assert "DASK_SCHEDULER_ADDRESS" in refusal(None, InputError)


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    message = refusal("tcp://127.0.0.1:1", MissingExtraError)
    assert "pip install 'd3-plugin[dask]', in a clone pip install '.[dask]'" in message


def problem(runs: list[Run], **of_command: object) -> str:
    """Why a worker makes none of these runs; with other facts in the command's identities."""
    made = make_runs(runs, [{**run.identity(), **of_command} for run in runs], None, verbose=False)
    assert made.files == {}
    assert made.problems.keys() == {run.name for run in runs}
    (text,) = set(made.problems.values())
    return text


def test_what_a_worker_can_lack(tmp_path: Path) -> None:
    """Data, the device, the host family, or the versions."""
    folder = make(tmp_path)
    runs = planned(str(folder), "0123")
    lacks = f"DataError: on {HOST}: data folder {folder} is missing here, or has other contents"
    assert problem(runs) == lacks
    (folder / "res101.mat").unlink()
    assert problem(runs) == lacks
    run = planned()[0]
    other = problem([run], versions={"torch": "1.0"})
    assert f"on {HOST}: this worker has other code or versions than the command: " in other
    assert "versions: torch was 1.0, is now " in other
    for change in ({"device": "meta"}, {"adapter": "vqgan"}):
        assert next(iter(change.values())) in problem([replace(run, **change)])


@pytest.mark.parametrize("device", ["meta", "tpuu", "cuda:99"])
def test_devices_of_this_machine(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match=f"--device '{device}' cannot be used here; there is cpu"):
        check_device(device)
