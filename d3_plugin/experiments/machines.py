"""Checks where runs are made: devices and packages of this machine, or a running Dask cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any, Literal

import torch

from d3_plugin.errors import InputError, MissingExtraError
from d3_plugin.experiments.run_identity import versions

Backend = Literal["loky", "dask"]

_PATIENCE = 10.0  # seconds for a scheduler to answer


def check_installed(extra: str, *packages: str) -> None:
    """Check that the packages of an extra are there, without importing them.

    Raises:
        MissingExtraError: one is not; says how to install it.
    """
    for name in packages:
        if find_spec(name) is None:
            raise MissingExtraError(
                f"this needs {name}: pip install 'd3-plugin[{extra}]', in a clone "
                f"pip install '.[{extra}]'"
            )


def check_device(device: str) -> None:
    """Check that PyTorch can train on this device.

    Raises:
        InputError: it cannot; says what there is.
    """
    with suppress(Exception):  # of many kinds, and with long texts about PyTorch's inside
        kind = torch.device(device).type
        if kind != "cuda":
            torch.zeros(1, device=device).item()
            return
        if torch.cuda.is_available():  # without starting CUDA in this process
            return
    backends = {"cuda": torch.cuda, "mps": torch.backends.mps}
    there_is = ["cpu", *(name for name, backend in backends.items() if backend.is_available())]
    raise InputError(f"--device {device!r} cannot be used here; there is {', '.join(there_is)}")


@contextmanager
def dask_cluster(scheduler: str | None) -> Iterator[Any]:
    """The ``distributed.Client`` of an existing cluster, which has workers.

    Args:
        scheduler: its address; default: ``DASK_SCHEDULER_ADDRESS``.

    Raises:
        MissingExtraError: Dask is not installed.
        InputError: no scheduler at the address, no worker, or one with other versions.
    """
    check_installed("dask", "dask", "distributed")
    import dask.config
    import distributed

    address = scheduler or dask.config.get("scheduler-address", None)
    if not address:
        raise InputError(
            "--backend dask needs --scheduler tcp://HOST:8786 or DASK_SCHEDULER_ADDRESS"
        )
    try:
        with ThreadPoolExecutor(1) as thread:  # this one may run an event loop, as notebooks do
            thread.submit(asyncio.run, _shake_hands(address)).result()
        # Any: its methods are typed as those of an asynchronous client.
        client: Any = distributed.Client(address, timeout=_PATIENCE, set_as_default=False)
    except Exception as error:  # of many kinds: time-outs, bad addresses, TLS
        raise InputError(
            f"no Dask scheduler answers at {address} ({error!r}); start one "
            "with 'dask scheduler', or correct --scheduler"
        ) from error
    with client:
        if not client.nthreads():
            raise InputError("the Dask cluster has no worker yet: dask worker ADDRESS")
        here = versions()
        for worker, there in client.run(versions, on_error="return").items():
            if there != here:  # or the error of one that lacks d3_plugin: it would try for ever
                raise InputError(f"Dask worker {worker} has {there!r}, this machine has {here}")
        yield client


async def _shake_hands(address: str) -> None:
    """A client waits for ever where something other than a scheduler listens; this does not."""
    from distributed import Security
    from distributed.comm.core import connect

    options = Security().get_connection_args("client")
    comm = await asyncio.wait_for(connect(address, timeout=_PATIENCE, **options), 2 * _PATIENCE)
    comm.abort()
