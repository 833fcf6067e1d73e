"""Where runs are made: on this machine, or on a Dask or Ray cluster that is already running."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

from d3_plugin.errors import InputError
from d3_plugin.experiments.preflight import check_installed

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

    cluster: AbstractContextManager[dict[str, Any]] = nullcontext({})
    if backend != "loky":
        cluster = _dask_cluster(scheduler) if backend == "dask" else _ray_cluster(scheduler)
    with cluster as how, parallel_config(backend, **how):
        yield


@contextmanager
def _dask_cluster(scheduler: str | None) -> Iterator[dict[str, Any]]:
    check_installed("dask", "dask", "distributed")
    import dask
    import distributed

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
        if not client.nthreads():
            raise InputError("the Dask cluster has no worker yet: dask worker ADDRESS")
        yield {"client": client}


async def _shake_hands(address: str) -> None:
    """A client waits for ever where something other than a scheduler listens; this does not."""
    from distributed import Security
    from distributed.comm import connect

    options = Security().get_connection_args("client")
    comm = await asyncio.wait_for(connect(address, timeout=_PATIENCE, **options), 2 * _PATIENCE)
    comm.abort()


@contextmanager
def _ray_cluster(scheduler: str | None) -> Iterator[dict[str, Any]]:
    check_installed("ray", "ray", "cloudpickle")
    import ray
    from ray.util.joblib import register_ray

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
        yield {"n_jobs": -1}
    finally:
        ray.shutdown()
