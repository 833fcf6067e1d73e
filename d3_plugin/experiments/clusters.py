"""Where runs are made: on this machine, or on a Dask or Ray cluster that is already running."""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal

from d3_plugin.errors import InputError, MissingExtraError

Backend = Literal["loky", "dask", "ray"]

_PATIENCE = 10.0  # seconds for a scheduler to answer


@contextmanager
def runs_on(backend: Backend, scheduler: str | None) -> Iterator[None]:
    """``joblib.Parallel`` inside this context makes its calls there.

    Args:
        backend: ``loky``: processes of this machine. ``dask``, ``ray``: an existing cluster.
        scheduler: its address; default: ``DASK_SCHEDULER_ADDRESS`` or ``RAY_ADDRESS``.

    Raises:
        MissingExtraError: Dask or Ray is not installed.
        InputError: no scheduler at the address, or no worker.
    """
    from joblib import parallel_config

    if backend == "loky":
        with parallel_config("loky"):
            yield
    elif backend == "dask":
        with _dask_client(scheduler) as client:
            if not client.nthreads():
                raise InputError("the Dask cluster has no worker yet: dask worker ADDRESS")
            with parallel_config("dask", client=client):
                yield
    else:
        with _ray_cluster(scheduler), parallel_config("ray", n_jobs=-1):
            yield


def _package(backend: Backend, name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"--backend {backend} needs {error.name}: pip install 'd3-plugin[{backend}]'"
        ) from error


@contextmanager
def _dask_client(scheduler: str | None) -> Iterator[Any]:
    distributed, dask = _package("dask", "distributed"), _package("dask", "dask")
    address = scheduler or dask.config.get("scheduler-address", None)
    if not address:
        raise InputError(
            "--backend dask needs --scheduler tcp://HOST:8786 or DASK_SCHEDULER_ADDRESS"
        )
    try:
        with ThreadPoolExecutor(1) as thread:  # this one may run an event loop, as notebooks do
            thread.submit(asyncio.run, _shake_hands(address)).result()
        client = distributed.Client(address, timeout=_PATIENCE, set_as_default=False)
    except Exception as error:  # of many kinds: time-outs, bad addresses, TLS
        raise InputError(
            f"no Dask scheduler answers at {address} ({error!r}); start one "
            "with 'dask scheduler', or correct --scheduler"
        ) from error
    with client:
        yield client


async def _shake_hands(address: str) -> None:
    """A client waits for ever where something other than a scheduler listens; this does not."""
    from distributed import Security
    from distributed.comm import connect

    options = Security().get_connection_args("client")
    comm = await asyncio.wait_for(connect(address, timeout=_PATIENCE, **options), 2 * _PATIENCE)
    comm.abort()


@contextmanager
def _ray_cluster(scheduler: str | None) -> Iterator[None]:
    ray = _package("ray", "ray")
    register_ray = _package("ray", "ray.util.joblib").register_ray
    address = scheduler or os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if host and port.isdecimal():  # Ray itself would try for minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
        ray.init(address=scheduler or "auto", log_to_driver=False)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        raise InputError(
            f"no Ray cluster answers at {address or 'this machine'} ({error!r}); start one "
            "with 'ray start --head', or correct --scheduler"
        ) from error
    try:
        register_ray()
        yield
    finally:
        ray.shutdown()
