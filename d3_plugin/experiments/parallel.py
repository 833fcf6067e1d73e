"""Makes the runs of a grid that are not finished yet, several trainings at a time."""

from __future__ import annotations

import os
import pickle
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch

from d3_plugin.errors import D3Error, DataError, FailedRunsError, Problems, StorageError
from d3_plugin.experiments.clusters import Backend, runs_on
from d3_plugin.experiments.plan import Run, trainings
from d3_plugin.experiments.preflight import unfit
from d3_plugin.experiments.run import Outcome, execute
from d3_plugin.experiments.store import RunStore
from d3_plugin.files import write_temporary

Progress = Literal["none", "runs", "steps"]
Answer = TypeVar("Answer", Outcome, None)

# A training seeds PyTorch's global random stream: two in threads of one process would mix them.
_one_at_a_time = threading.Lock()


def run_all(
    runs: list[Run],
    store: RunStore,
    *,
    jobs: int = 1,
    backend: Backend = "loky",
    scheduler: str | None = None,
    progress: Progress = "runs",
) -> dict[str, Outcome]:
    """Every run's outcome: loaded if it is finished, made and stored if not.

    On this machine the process that trains stores the runs. On a cluster, whose workers may not
    share the folder, outcomes come back and the parent stores them.

    Args:
        runs: a grid of independent runs with different names.
        store: where finished runs are.
        jobs: trainings at the same time on this machine; a cluster has as many as workers.
        backend: ``loky`` for this machine, or an existing ``dask`` or ``ray`` cluster.
        scheduler: address of the cluster; default: ``DASK_SCHEDULER_ADDRESS`` or ``RAY_ADDRESS``.
        progress: what to show: nothing; a line per finished run and, on a terminal, a bar; also a
            line per tenth of each training.

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
    todo = trainings(run for run in runs if run.name not in done)
    if progress != "none":
        finished = f"{len(runs)} runs, {len(done)} of them finished earlier"
        print(f"{finished}; results in {store.folder.parent}", flush=True)
    if not todo:
        return done
    answered: set[int] = set()
    problems = Problems("runs failed; the others are kept, start again after a remedy")
    hidden = True if progress == "none" else None  # None: unless there is a terminal
    with (
        runs_on(backend, scheduler),
        tqdm(total=len(runs), initial=len(done), unit="run", disable=hidden) as bar,
        _watched(todo, answered, done, store, bar, progress) as board,
    ):
        for place, answers in _answers(todo, store, jobs, backend, board):
            answered.add(place)
            for run, answer in zip(todo[place], answers, strict=True):
                if isinstance(answer, str):
                    problems.add(f"{run.name}{answer}")
                    continue
                if answer is not None:
                    store.save(answer)
                done |= store.load_all([run])
                if progress != "none":
                    made = done[run.name]
                    bar.write(f"{run.name:<40} {made.evaluation}  {made.seconds:.0f} s")
            bar.n = len(done)
            bar.refresh()
    problems.raise_as(FailedRunsError)
    return done


@contextmanager
def _watched(
    todo: list[list[Run]],
    answered: set[int],
    done: dict[str, Outcome],
    store: RunStore,
    bar: Any,
    progress: Progress,
) -> Iterator[Path | None]:
    """A file to which trainings write their last finished steps, shown every second."""
    if bar.disable and progress != "steps":
        yield None
        return
    board = write_temporary(store.folder / "steps", bytes(8 * len(todo)))
    made, ended = np.memmap(board, np.int64, "r+"), threading.Event()
    steps = [runs[0].host.get("steps", 0) for runs in todo]
    shown = [0] * len(todo)  # tenths

    def watch() -> None:
        while not ended.wait(1.0):
            places = [i for i in np.flatnonzero(made) if steps[i] and i not in answered]
            begun = sum(len(todo[i]) * made[i] / steps[i] for i in places)
            bar.n = round(len(done) + begun, 2)
            bar.set_postfix_str(", ".join(f"step {made[i]}/{steps[i]}" for i in places))
            for i in places if progress == "steps" else []:
                if shown[i] < (tenth := 10 * made[i] // steps[i]):
                    shown[i] = tenth
                    others = f" and {len(todo[i]) - 1} more" if len(todo[i]) > 1 else ""
                    name = f"{todo[i][0].name}{others}"
                    bar.write(f"{name:<40} step {made[i]} of {steps[i]}")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield board
    finally:
        ended.set()
        watcher.join()
        board.unlink(missing_ok=True)


def _answers(
    todo: list[list[Run]], store: RunStore, jobs: int, backend: Backend, board: Path | None
) -> Iterator[tuple[int, Sequence[Outcome | str | None]]]:
    """Each training's place, as soon as it is made, and for each of its runs what went wrong or
    the outcome to store."""
    from joblib import Parallel, delayed, effective_n_jobs

    # Ray's backend has no generators: it gets as many calls at a time as it has workers.
    how: dict[str, Any] = {} if backend == "ray" else {"return_as": "generator_unordered"}
    if backend == "loky":
        calls = [delayed(_make_here)(runs, store, board, i) for i, runs in enumerate(todo)]
        jobs = min(jobs, len(todo))
        # As they start: a worker that has not got a call yet would outlive a killed parent.
        # With the path: workers of an earlier command cannot import from folders added since.
        how |= {"initializer": _end_with, "initargs": (os.getpid(), *sys.path)}
    else:
        import cloudpickle

        versions = todo[0][0].identity()["versions"]
        # Pickled here: a worker that cannot import a host family would let joblib wait for ever.
        calls = [
            delayed(_make_there)(i, len(runs), cloudpickle.dumps(runs), versions)
            for i, runs in enumerate(todo)
        ]
        jobs = -1
    width = effective_n_jobs(-1) if backend == "ray" else len(calls)
    try:
        with Parallel(n_jobs=jobs, batch_size=1, **how) as parallel:
            for first in range(0, len(calls), width):
                yield from parallel(calls[first : first + width])
    except D3Error:
        raise
    except Exception as error:  # of many kinds: a worker was killed, a cluster is gone
        raise D3Error(
            f"the {backend} workers failed ({type(error).__name__}: {error}); finished runs are "
            "kept. Start the same command again, with fewer --jobs if memory was short"
        ) from error


def _make_here(
    runs: list[Run], store: RunStore, board: Path | None, place: int
) -> tuple[int, Sequence[str | None]]:
    """Make and store the runs of a training; only what failed goes through the pipe to the parent.

    Writes its last finished step to its place on the board.
    """

    def on_step(step: int) -> None:
        if board is not None:
            with suppress(OSError):  # the parent is gone
                np.memmap(board, np.int64, "r+")[place] = step

    def make(runs: list[Run]) -> list[None]:
        for outcome in execute(runs, store.checkpoint(runs), on_step):
            store.save(outcome)
        store.remove_checkpoints(runs[0])
        return [None] * len(runs)

    return place, _answered(make, runs)


def _end_with(parent: int, *path: str) -> None:
    """This worker ends within a second of its parent, whatever it is doing."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _make_there(
    place: int, number: int, pickled: bytes, versions: dict[str, str]
) -> tuple[int, Sequence[Outcome | str]]:
    """Make the runs of a training on a worker of a cluster, which may not share the folder."""
    with _one_at_a_time:
        try:
            runs = pickle.loads(pickled)
            problems = unfit(runs[0], versions)
        except Exception as error:
            problems = [f"its host family cannot be loaded ({type(error).__name__}: {error})"]
        if problems:
            return place, [f", on {socket.gethostname()}: {'; '.join(problems)}"] * number
        return place, _answered(execute, runs)


def _answered(
    make: Callable[[list[Run]], Sequence[Answer]], runs: list[Run]
) -> Sequence[Answer | str]:
    """What ``make`` gives for the runs of a training, or what went wrong.

    The runs of a failed training get one each, so that the others are kept.
    """
    from joblib import parallel_config
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(runs[0].threads)
    try:
        # "sequential": a cluster's backend would spread what is inside a run as well.
        with threadpool_limits(runs[0].threads), parallel_config("sequential"):
            return make(runs)
    except StorageError:  # later runs could not be stored either
        raise
    except Exception as error:
        if len(runs) == 1 or isinstance(error, DataError):
            return [f": {type(error).__name__}: {error}"] * len(runs)
    finally:
        torch.set_num_threads(before)
    return [answer for run in runs for answer in _answered(make, [run])]
