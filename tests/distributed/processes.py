"""Runs a function in several processes of one gloo group, and brings back what it returned."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tests.forked import FORKSERVER

Worker = Callable[[], dict[str, Any]]
_TIMEOUT = timedelta(seconds=60)  # a hang becomes an error


def _run(rank: int, worker: Worker, processes: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=processes,
        timeout=_TIMEOUT,
    )
    torch.save(worker(), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def in_processes(worker: Worker, processes: int, folder: Path) -> list[dict[str, Any]]:
    """What ``worker`` returned in each process, by rank.

    Args:
        worker: a module's function; its answer must survive ``torch.load(weights_only=True)``.
        processes: how many.
        folder: an empty one.
    """
    arguments = (worker, processes, str(folder))
    torch.multiprocessing.start_processes(
        _run, arguments, nprocs=processes, join=True, start_method=FORKSERVER.get_start_method()
    )
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(processes)]
