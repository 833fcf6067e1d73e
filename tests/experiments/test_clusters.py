"""Runs on other machines: a real Dask cluster on this one, and what can be wrong with one."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from d3_adapters.fclswgan import FCLSWGANSettings
from d3_plugin import D3Settings, InputError, MissingExtraError
from d3_plugin.__main__ import main
from d3_plugin.data import digest
from d3_plugin.errors import FailedRunsError
from d3_plugin.experiments import clusters
from d3_plugin.experiments.clusters import runs_on
from d3_plugin.experiments.parallel import run_all
from d3_plugin.experiments.plan import Run, plan
from d3_plugin.experiments.preflight import unfit, unusable
from d3_plugin.experiments.store import RunStore
from tests.data.mat_folders import make
from tests.experiments.test_families_in_place import MODULE, TINY
from tests.experiments.tiny import ARGUMENTS, results


def planned(data: str = "digits-2", digest: str = "") -> list[Run]:
    hosts = {"fclswgan": asdict(FCLSWGANSettings())}
    variants = {"baseline": None, "d3": D3Settings()}
    return plan(hosts, data, digest, 1, variants, draws=1, device="cpu", validated=[0])


def refusal(backend: clusters.Backend, scheduler: str | None, error: type[Exception]) -> str:
    with pytest.raises(error) as caught, runs_on(backend, scheduler):
        pytest.fail("runs were begun")
    return str(caught.value)


@pytest.fixture(scope="module")
def loky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of this machine, one thread a run as on a cluster."""
    out = tmp_path_factory.mktemp("loky")
    assert main([*ARGUMENTS, "--jobs", "2", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def dask_cluster() -> Iterator[str]:
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as cluster:
        yield cluster.scheduler_address


def test_dask_gives_the_results_of_this_machine(
    loky: Path, dask_cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", dask_cluster)
    monkeypatch.setitem(__import__("dask").config.config, "scheduler-address", dask_cluster)
    assert main([*ARGUMENTS, "--backend", "dask", "--out", str(tmp_path)]) == 0
    assert results(tmp_path) == results(loky)


def test_dask_takes_a_family_by_its_import_path(
    dask_cluster: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "family_for_dask.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    command = [*TINY, "--adapter", "family_for_dask:family", "--backend", "dask"]
    command += ["--scheduler", dask_cluster, "--out", "out"]
    assert main(command) == 2
    assert "cannot be loaded (ModuleNotFoundError: No module named" in capsys.readouterr().err
    with __import__("distributed").Client(dask_cluster) as client:
        client.upload_file("family_for_dask.py")
    assert main(command) == 0
    assert len(list(Path("out/runs").glob("regression-*.npz"))) == 4


def test_dask_workers_say_what_they_lack_before_any_work(dask_cluster: str, tmp_path: Path) -> None:
    runs = planned(data="no/such/folder", digest="0123")
    with pytest.raises(FailedRunsError, match="data folder no/such/folder is missing"):
        run_all(runs, RunStore(tmp_path), backend="dask", scheduler=dask_cluster)


def test_dask_without_workers() -> None:
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    with distributed.LocalCluster(n_workers=0, dashboard_address=":0") as cluster:
        assert "has no worker yet" in refusal("dask", cluster.scheduler_address, InputError)


def test_no_dask_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens, something else listens, and no address at all."""
    pytest.importorskip("distributed", reason="Dask is not installed")
    monkeypatch.setattr(clusters, "_PATIENCE", 1.0)
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        assert f"no Dask scheduler answers at {address}" in refusal("dask", address, InputError)
    assert "no Dask scheduler answers" in refusal("dask", address, InputError)
    assert "no Dask scheduler answers at nonsense" in refusal("dask", "nonsense", InputError)
    assert "DASK_SCHEDULER_ADDRESS" in refusal("dask", None, InputError)


@pytest.mark.parametrize(("backend", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_not_installed(
    monkeypatch: pytest.MonkeyPatch, backend: clusters.Backend, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    message = refusal(backend, "tcp://127.0.0.1:1", MissingExtraError)
    assert f"pip install 'd3-plugin[{backend}]'" in message


def test_what_a_worker_can_lack(tmp_path: Path) -> None:
    folder = make(tmp_path)
    spec = str(folder)
    versions = planned()[0].identity()["versions"]
    assert unfit(planned()[0], versions) == []
    assert unfit(planned(spec, digest(spec))[0], versions) == []
    problem = [f"data folder {spec} is missing here, or has other contents"]
    assert unfit(planned(spec, "0123")[0], versions) == problem
    (folder / "res101.mat").unlink()
    assert unfit(planned(spec, "0123")[0], versions) == problem
    assert unusable("meta")
    assert not unusable("cuda:7", here=False)
    (old,) = unfit(planned()[0], {**versions, "torch": "1.0"})
    assert "'torch': '1.0'" in old
    odd = replace(planned()[0], device="tpuu", adapter="vqgan")
    device, adapter = unfit(odd, versions)
    assert "tpuu" in device
    assert "no adapter named 'vqgan'" in adapter


def test_ray_gives_the_results_of_this_machine(loky: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    ray = shutil.which("ray", path=str(Path(sys.executable).parent))
    assert ray is not None
    command = f"{ray} start --head --block --num-cpus 2 --port 6399 --include-dashboard false"
    head = subprocess.Popen(
        [*command.split(), "--disable-usage-stats", "--object-store-memory", "200000000"],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for _ in range(20):
            arguments = ["--backend", "ray", "--scheduler", "127.0.0.1:6399", "--out"]
            if (status := main([*ARGUMENTS, *arguments, str(tmp_path)])) == 0:
                break
        assert status == 0
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        head.wait()
    assert results(tmp_path) == results(loky)
