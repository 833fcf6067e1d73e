"""Where runs are made: on this machine, or on a Dask or Ray cluster that exists already."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import torch
from joblib import parallel_config

from d3_plugin.data import digest
from d3_plugin.errors import InputError, MissingExtraError, Problems
from d3_plugin.experiments.plan import Run
from d3_plugin.experiments.run import find_family

Backend = Literal["loky", "dask", "ray"]

_PATIENCE = 10.0  # seconds for a scheduler to answer


@contextmanager
def runs_on(backend: Backend, scheduler: str | None, runs: list[Run]) -> Iterator[None]:
    """``joblib.Parallel`` inside this context makes its calls there.

    Args:
        backend: ``loky``: processes of this machine. ``dask``, ``ray``: an existing cluster.
        scheduler: its address; default: what ``DASK_SCHEDULER_ADDRESS`` or ``RAY_ADDRESS`` says.
        runs: what will be made there, to see whether the workers can.

    Raises:
        MissingExtraError: Dask or Ray is not installed.
        InputError: no scheduler at the address, or its workers cannot make the runs; names each.
    """
    if backend == "loky":
        if scheduler is not None:
            raise InputError(
                f"a scheduler ({scheduler}) is for the backends dask and ray, not loky"
            )
        with parallel_config("loky"):
            yield
    elif backend == "dask":
        with _dask_client(scheduler) as client:
            _check_dask_workers(client, runs)
            with parallel_config("dask", client=client):
                yield
    else:
        with _ray_cluster(scheduler), parallel_config("ray", n_jobs=-1):
            yield


def unfit(runs: list[Run], versions: dict[str, str]) -> list[str]:
    """Why this machine would not make these runs as the one that planned them expects.

    Args:
        runs: what is to be made here.
        versions: of the packages there, as in a run's identity.
    """
    problems = []
    for spec, expected in sorted({(run.data, run.data_digest) for run in runs}):
        try:
            found = digest(spec)
        except OSError as error:
            problems.append(f"data folder {spec}: {error.strerror or error}")
            continue
        if found != expected:
            state = "has other contents than" if found else "is not there; it is"
            problems.append(f"data folder {spec} {state} where the command was started")
    for device in sorted({run.device for run in runs}):
        problems += unusable(device)
    for name in sorted({run.adapter for run in runs}):
        try:
            find_family(name)
        except InputError as error:
            problems.append(str(error))
    own = replace(runs[0], device="cpu").identity()["versions"]
    if own != versions:
        problems.append(f"versions {own}; where the command was started {versions}")
    return problems


def unusable(device: str, *, here: bool = True) -> list[str]:
    """Why PyTorch cannot train on this device; ``here=False`` looks only whether it is one."""
    try:
        kind = torch.device(device).type
        if here and kind != "cuda":  # which would start CUDA in this process
            torch.zeros(1, device=device).item()
    except Exception as error:  # of many kinds
        return [f"device {device!r}: {str(error).splitlines()[0]}"]
    if here and kind == "cuda" and not torch.cuda.is_available():
        return [f"device {device!r}: this PyTorch sees no GPU; use --device cpu"]
    return []


@contextmanager
def _dask_client(scheduler: str | None) -> Iterator[Any]:
    try:
        import dask
        from distributed import Client
    except ImportError as error:
        raise MissingExtraError(
            f"--backend dask needs {error.name}: pip install 'd3-plugin[dask]'"
        ) from error
    address = scheduler or dask.config.get("scheduler-address", None)
    if not address:
        raise InputError(
            "--backend dask needs the address of a running scheduler: --scheduler tcp://HOST:8786, "
            "or the environment variable DASK_SCHEDULER_ADDRESS"
        )
    try:
        with ThreadPoolExecutor(1) as thread:  # this one may run an event loop, as notebooks do
            thread.submit(asyncio.run, _shake_hands(address)).result()
        client = Client(address, timeout=_PATIENCE, set_as_default=False)
    except Exception as error:  # of many kinds: time-outs, addresses that are none, TLS
        raise InputError(
            f"no Dask scheduler answers at {address} ({error!r}); start one "
            "with 'dask scheduler', or correct --scheduler"
        ) from error
    with client:
        yield client


async def _shake_hands(address: str) -> None:
    """A client waits for ever where something else than a scheduler listens; this does not."""
    from distributed import Security
    from distributed.comm import connect

    options = Security().get_connection_args("client")
    comm = await asyncio.wait_for(connect(address, timeout=_PATIENCE, **options), 2 * _PATIENCE)
    comm.abort()


def _check_dask_workers(client: Any, runs: list[Run]) -> None:
    threads = client.nthreads()
    problems = Problems("the Dask cluster cannot make these runs")
    problems.check(
        bool(threads), "it has no worker yet; start some: dask worker ADDRESS --nthreads 1"
    )
    for worker, number in threads.items():
        problems.check(
            number == 1,
            f"worker {worker} has {number} threads; a run needs a process of its own: start it "
            "with --nthreads 1 (and --nworkers N for N runs at a time)",
        )
    answers = client.run(unfit, runs, runs[0].identity()["versions"], on_error="return")
    for worker, answer in answers.items():
        if isinstance(answer, BaseException):
            answer = [f"{type(answer).__name__}: {answer}; install the same d3-plugin there"]
        for problem in answer:
            problems.add(f"worker {worker}: {problem}")
    problems.raise_as(InputError)


@contextmanager
def _ray_cluster(scheduler: str | None) -> Iterator[None]:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise MissingExtraError(
            f"--backend ray needs {error.name}: pip install 'd3-plugin[ray]'"
        ) from error
    _check_port(scheduler or os.environ.get("RAY_ADDRESS", ""))
    try:
        ray.init(address=scheduler or "auto", log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"no Ray cluster at {scheduler or 'this machine'} ({type(error).__name__}: {error}); "
            "start one with 'ray start --head', or correct --scheduler"
        ) from error
    try:
        register_ray()
        yield
    finally:
        ray.shutdown()


def _check_port(address: str) -> None:
    """Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"nothing answers at {address} ({error}); start a Ray cluster with 'ray start --head', "
            "or correct --scheduler"
        ) from error
