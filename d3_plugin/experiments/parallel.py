"""Makes the runs of a grid that are not finished yet, several at a time."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import torch

from d3_plugin.errors import D3Error, FailedRunsError, Problems
from d3_plugin.experiments.clusters import Backend, runs_on
from d3_plugin.experiments.plan import Run
from d3_plugin.experiments.preflight import unfit
from d3_plugin.experiments.run import Outcome, execute
from d3_plugin.experiments.store import RunStore

# A run seeds PyTorch's global random stream: two in the threads of one process would mix them.
_one_at_a_time = threading.Lock()


def run_all(
    runs: list[Run],
    store: RunStore,
    *,
    jobs: int = 1,
    backend: Backend = "loky",
    scheduler: str | None = None,
) -> dict[str, Outcome]:
    """Every run's outcome: loaded if it is finished, made and stored if not; shows progress.

    On this machine the process that makes a run stores it, so that it survives its parent. On a
    cluster, whose workers may not share the folder, the outcome comes back and the parent stores
    it.

    Args:
        runs: a grid of independent runs with different names.
        store: where finished runs are.
        jobs: runs at the same time on this machine, each on one thread; with 1, a run uses every
            core. A cluster makes as many as it has workers.
        backend: ``loky`` for this machine, or an existing ``dask`` or ``ray`` cluster.
        scheduler: address of the cluster; default: ``DASK_SCHEDULER_ADDRESS`` or ``RAY_ADDRESS``.

    Returns:
        Outcomes by the run's name.

    Raises:
        D3Error: a stored run is damaged or has other settings, or the cluster cannot be used,
            before any run is made; or runs failed: lists them, and the others are kept.
        StorageError: a run cannot be stored; no other is begun.
        KeyboardInterrupt: finished runs are kept.
    """
    from tqdm import tqdm

    store.prepare()
    done = store.load_all(runs)
    todo = [run for run in runs if run.name not in done]
    print(
        f"{len(runs)} runs, {len(done)} of them finished earlier; results in {store.folder.parent}",
        flush=True,
    )
    if not todo:
        return done
    problems = Problems("runs failed; the others are kept, start again after a remedy")
    with (
        runs_on(backend, scheduler, todo),
        tqdm(total=len(runs), initial=len(done), unit="run", file=sys.stderr) as bar,
    ):
        for answer in _answers(todo, store, jobs, backend):
            if isinstance(answer, str):
                problems.add(answer)
                continue
            if backend != "loky":
                store.save(answer)
            done[answer.run.name] = answer
            bar.update()
            bar.write(f"{answer.run.name:<40} {answer.evaluation}  {answer.seconds:.0f} s")
    problems.raise_as(FailedRunsError)
    return done


def _answers(
    todo: list[Run], store: RunStore, jobs: int, backend: Backend
) -> Iterator[Outcome | str]:
    """For each run, as soon as it is made, its outcome or what went wrong."""
    from joblib import Parallel, delayed, effective_n_jobs

    versions = todo[0].identity()["versions"]
    try:
        if backend == "loky":
            here = (delayed(_make_here)(run, store, jobs, os.getpid()) for run in todo)
            processes = min(jobs, max(2, len(todo)))  # one would be this process itself
            yield from Parallel(n_jobs=processes, return_as="generator_unordered")(here)
        elif backend == "dask":
            there = (delayed(_make_there)(run, versions) for run in todo)
            yield from Parallel(batch_size=1, return_as="generator_unordered")(there)
        else:  # Ray's backend has no generators: a group of as many as there are workers at a time
            width = effective_n_jobs(-1)
            with Parallel(n_jobs=-1, batch_size=1) as parallel:
                for first in range(0, len(todo), width):
                    part = todo[first : first + width]
                    yield from parallel(delayed(_make_there)(run, versions) for run in part)
    except D3Error:
        raise
    except Exception as error:  # of many kinds: a worker was killed, a cluster is gone
        raise D3Error(
            f"the {backend} workers failed ({type(error).__name__}: {error}); finished runs are "
            "kept. Start the same command again, with fewer --jobs if memory was short"
        ) from error


def _make_here(run: Run, store: RunStore, jobs: int, parent: int) -> Outcome | str:
    """The outcome, stored, or what went wrong."""
    _end_if_orphaned(parent)
    checkpoint = store.checkpoint(run)
    answer = _make(run, None if jobs == 1 else 1, checkpoint)
    if not isinstance(answer, str):
        store.save(answer)
        checkpoint.unlink(missing_ok=True)
    _end_if_orphaned(parent)
    return answer


def _end_if_orphaned(parent: int) -> None:
    """A worker whose parent was killed has stored its run, and will get no other."""
    if parent not in (os.getpid(), os.getppid()):
        os._exit(1)


def _make_there(run: Run, versions: dict[str, str]) -> Outcome | str:
    """The outcome, made on a worker of a cluster, or what went wrong."""
    with _one_at_a_time:
        if problems := unfit([run], versions):
            return f"{run.name}, on {socket.gethostname()}: {'; '.join(problems)}"
        return _make(run, 1)


def _make(run: Run, threads: int | None, checkpoint: Path | None = None) -> Outcome | str:
    from joblib import parallel_config
    from threadpoolctl import threadpool_limits

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        # "sequential": a cluster's backend would spread what is inside a run as well.
        with threadpool_limits(threads), parallel_config("sequential"):
            return execute(run, checkpoint)
    except Exception as error:
        return f"{run.name}: {type(error).__name__}: {error}"
