"""Makes the runs of a grid that are not finished yet, several trainings at a time."""

from __future__ import annotations

import os
import pickle
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch

from d3_plugin.checks import Effort
from d3_plugin.data import digest
from d3_plugin.errors import D3Error, DataError, FailedRunsError, InputError, Problems, StorageError
from d3_plugin.experiments.machines import Backend, dask_cluster
from d3_plugin.experiments.plan import trainings
from d3_plugin.experiments.run import execute
from d3_plugin.experiments.run_file import written
from d3_plugin.experiments.run_identity import Run, differences
from d3_plugin.experiments.store import RunStore
from d3_plugin.experiments.training import OnStep, Outcome
from d3_plugin.files import write_atomically

Progress = Literal["none", "runs", "steps"]

# A training seeds PyTorch's global random stream: two in threads of one process would mix them.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How runs are made, and what progress is shown.

    Attributes:
        jobs: trainings at the same time on this machine; a cluster has as many as workers.
        backend: where runs are made: ``loky``, processes of this machine, or an existing ``dask``
            cluster.
        scheduler: address of the cluster; default: $DASK_SCHEDULER_ADDRESS.
        progress: nothing; a line per finished run and, on a terminal, a bar; also a line per tenth
            of each training, on standard error of its worker.
    """

    jobs: Effort = 1
    backend: Backend = "loky"
    scheduler: str | None = None
    progress: Progress = "runs"


@dataclass(frozen=True)
class Made:
    """What comes of the runs of a training.

    Attributes:
        files: contents of the files of finished runs, by the run's name.
        problems: why the others cannot be made, by the run's name.
        one_by_one: the training of several runs failed; each gets one of its own.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    one_by_one: bool = False


def run_all(
    runs: Sequence[Run], store: RunStore, workers: Workers, *, rerun: bool = False
) -> dict[str, Outcome]:
    """Every run's outcome: loaded if it is finished, made and stored if not.

    Args:
        runs: a grid of independent runs with different names.
        store: where finished runs are; only this process writes them.
        workers: who makes the others.
        rerun: move runs with other code or settings aside and make them again.

    Returns:
        Outcomes by the run's name.

    Raises:
        D3Error: before any run is made: a stored run is damaged, or has other code or settings
            without ``rerun``, or the cluster cannot be used. Or runs failed: lists them; the
            others are kept.
        StorageError: a run cannot be stored; no other is begun.
        KeyboardInterrupt: finished runs are kept.
    """
    from tqdm import tqdm

    store.prepare()
    done = store.load_all(runs, rerun=rerun)
    missing = {run.name: run for run in runs if run.name not in done}
    silent = workers.progress == "none"
    if not silent:
        finished = f"{len(runs)} runs, {len(done)} of them finished earlier"
        print(f"{finished}; results in {store.folder.parent}", flush=True)
    for outcome in done.values():  # of a command that was killed as it stored the other runs
        store.remove_checkpoints(outcome.run)
    if not missing:
        return done
    problems = Problems("runs failed; the others are kept. Fix the cause and run the command again")
    hidden = True if silent else None  # None: unless there is a terminal
    with (
        tqdm(total=len(runs), initial=len(done), unit="run", disable=hidden) as bar,
        closing(_made(trainings(missing.values()), store, workers)) as trained,
    ):
        for made in trained:
            for name, problem in made.problems.items():
                problems.add(f"{name}: {problem}")
            for name, content in made.files.items():
                write_atomically(store.path(missing[name]), content)
            new = store.load_all(missing[name] for name in made.files)
            for name, outcome in new.items():
                store.remove_checkpoints(outcome.run)
                if not silent:
                    bar.write(f"{name:<40} {outcome.evaluation}  {outcome.seconds:.0f} s")
                bar.update()
            done |= new
    problems.raise_as(FailedRunsError)
    return done


def _made(
    todo: Sequence[list[Run]], store: RunStore, workers: Workers
) -> Generator[Made, None, None]:
    """What comes of each training, as it is finished."""
    checkpoints = store if workers.backend == "loky" else None  # a cluster may not share the folder
    verbose = workers.progress == "steps"
    # Those of now: sources may be edited during the trainings.
    identities = {run.name: run.identity() for runs in todo for run in runs}

    def task(runs: list[Run]) -> Callable[[], Made]:
        return partial(
            make_runs, runs, [identities[run.name] for run in runs], checkpoints, verbose
        )

    if workers.backend == "loky" and min(workers.jobs, len(todo)) == 1:
        for runs in todo:
            made = task(runs)()
            yield made
            for run in runs if made.one_by_one else ():
                yield task([run])()
        return
    from joblib.externals.loky.backend.reduction import dumps  # cloudpickle's

    try:  # not by Dask, which would try for ever on workers that cannot import a host family
        pickled = [bytes(dumps(task(runs))) for runs in todo]
    except Exception as error:  # of the family's and the plugins' objects
        raise InputError(f"workers cannot be sent these runs: {_in_words(error)}") from error
    with _executor(workers, len(todo)) as executor:
        sent = {executor.submit(_on_worker, p): runs for p, runs in zip(pickled, todo, strict=True)}
        while sent:
            for future in wait(sent, return_when=FIRST_COMPLETED).done:
                runs = sent.pop(future)
                made = _answer(future, runs)
                for run in runs if made.one_by_one else ():
                    sent[executor.submit(_on_worker, bytes(dumps(task([run]))))] = [run]
                yield made


def _answer(future: Future[Made], runs: Sequence[Run]) -> Made:
    """What has come of these runs.

    Raises:
        StorageError, BrokenExecutor: no other run could be stored, or made.
    """
    try:
        return future.result()
    except (StorageError, BrokenExecutor):
        raise
    except Exception as error:
        problem = f"no worker has made it ({_in_words(error)})"
        return Made(problems=dict.fromkeys([run.name for run in runs], problem))


@contextmanager
def _executor(workers: Workers, number: int) -> Iterator[Executor]:
    """The workers, for this number of trainings."""
    if workers.backend == "dask":
        with dask_cluster(workers.scheduler) as client:
            yield client.get_executor(pure=False)
        return
    from joblib.externals.loky import ProcessPoolExecutor

    # As they start: a worker that has not got a task yet would outlive a killed parent.
    jobs = min(workers.jobs, number)
    pool = ProcessPoolExecutor(jobs, initializer=_end_with, initargs=(os.getpid(),))
    try:
        yield pool
    except BrokenExecutor as error:  # as a rule a worker was killed
        raise D3Error(
            f"the worker processes failed ({_in_words(error)}); finished runs are kept. Start the "
            "same command again, with fewer --jobs if memory was short"
        ) from error
    finally:
        pool.shutdown(kill_workers=True)


def _end_with(parent: int) -> None:
    """This worker ends within a second of its parent, whatever it is doing."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_worker(pickled: bytes) -> Made:
    """Carry out a task."""
    with _one_at_a_time:  # reading code is not safe in several threads either (Python 3.11)
        try:
            task: Callable[[], Made] = pickle.loads(pickled)
        except Exception as error:  # as a rule, this worker cannot import the host family
            raise D3Error(f"{socket.gethostname()}: {_in_words(error)}") from error
        return task()


def make_runs(
    runs: Sequence[Run],
    identities: Sequence[Mapping[str, Any]],
    checkpoints: RunStore | None,
    verbose: bool,
) -> Made:
    """Make the runs of a training, in whatever process this is.

    Args:
        runs: of one training.
        identities: theirs in the process of the command.
        checkpoints: where an unfinished training is kept, if anywhere.
        verbose: print a line per tenth of the training.

    Raises:
        StorageError: a checkpoint cannot be written; nor could those of later runs.
    """
    from threadpoolctl import threadpool_limits

    names, threads = [run.name for run in runs], torch.get_num_threads()
    torch.set_num_threads(runs[0].threads)
    try:
        _check_same(runs, identities)
        checkpoint = None if checkpoints is None else checkpoints.checkpoint(runs)
        with threadpool_limits(runs[0].threads):
            outcomes = execute(runs, checkpoint, _tenths(runs) if verbose else None)
            return Made({outcome.run.name: written(outcome) for outcome in outcomes})
    except StorageError:
        raise
    except Exception as error:
        if len(runs) > 1 and not isinstance(error, DataError):
            return Made(one_by_one=True)
        return Made(problems=dict.fromkeys(names, _in_words(error)))
    finally:
        torch.set_num_threads(threads)


def _check_same(runs: Sequence[Run], identities: Sequence[Mapping[str, Any]]) -> None:
    """Check that code, versions and data are those of the command.

    Raises:
        DataError: they are not.
    """
    here, run = socket.gethostname(), runs[0]
    for each, wanted in zip(runs, identities, strict=True):
        if changes := differences(wanted, each.identity()):
            raise DataError(
                f"on {here}: this worker has other code or versions than the command: "
                f"{', '.join(changes)}"
            )
    try:
        found = digest(run.data, run.attributes)
    except OSError:
        found = None
    if found != run.data_digest:
        raise DataError(f"on {here}: data folder {run.data} is missing here, or has other contents")


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _tenths(runs: Sequence[Run]) -> OnStep:
    """Prints a line per tenth of a training."""
    steps, shown = runs[0].host.get("steps", 0), 0
    others = f" and {len(runs) - 1} more" if len(runs) > 1 else ""

    def on_step(step: int) -> None:
        nonlocal shown
        if steps and (tenth := 10 * step // steps) > shown:
            shown = tenth
            name = f"{runs[0].name}{others}"
            print(f"{name:<40} step {step} of {steps}", file=sys.stderr, flush=True)

    return on_step
