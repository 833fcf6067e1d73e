"""Makes the runs of a grid that are not finished yet, several trainings at a time."""

from __future__ import annotations

import os
import pickle
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from d3_plugin.checks import Effort
from d3_plugin.data import digest
from d3_plugin.errors import D3Error, DataError, FailedRunsError, Problems, StorageError
from d3_plugin.experiments.code import digest_of
from d3_plugin.experiments.machines import Backend, dask_cluster
from d3_plugin.experiments.plan import trainings
from d3_plugin.experiments.run import OnStep, Outcome, execute
from d3_plugin.experiments.run_identity import Run, differences
from d3_plugin.experiments.store import RunStore

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
    """What a worker answers for one run.

    Attributes:
        name: of the run.
        outcome: to be stored; None if the worker has stored it.
        problem: why there is none; empty if there is.
    """

    name: str
    outcome: Outcome | None = None
    problem: str = ""


def run_all(
    runs: Sequence[Run], store: RunStore, workers: Workers, *, rerun: bool = False
) -> dict[str, Outcome]:
    """Every run's outcome: loaded if it is finished, made and stored if not.

    On this machine the process that trains stores the runs. On a cluster, whose workers may not
    share the folder, outcomes come back and the parent stores them.

    Args:
        runs: a grid of independent runs with different names.
        store: where finished runs are.
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
    make = _on_dask if workers.backend == "dask" else _on_this_machine
    hidden = True if silent else None  # None: unless there is a terminal
    with tqdm(total=len(runs), initial=len(done), unit="run", disable=hidden) as bar:
        for made in make(trainings(missing.values()), store, workers):
            if made.problem:
                problems.add(f"{made.name}: {made.problem}")
                continue
            if made.outcome is not None:
                store.save(made.outcome)
            done |= store.load_all([missing[made.name]])
            if not silent:
                outcome = done[made.name]
                bar.write(f"{made.name:<40} {outcome.evaluation}  {outcome.seconds:.0f} s")
            bar.update()
    problems.raise_as(FailedRunsError)
    return done


def _on_this_machine(todo: list[list[Run]], store: RunStore, workers: Workers) -> Iterator[Made]:
    """Make trainings in processes of this machine."""
    from joblib import Parallel, delayed

    verbose = workers.progress == "steps"
    parallel = Parallel(
        n_jobs=min(workers.jobs, len(todo)),
        backend="loky",
        batch_size=1,
        return_as="generator_unordered",
        # As they start: a worker that has not got a call yet would outlive a killed parent.
        # With path and code: workers of an earlier command cannot import from folders added since,
        # and have the modules of then.
        initializer=_end_with,
        initargs=(os.getpid(), digest_of([r.code for runs in todo for r in runs]), *sys.path),
    )
    try:
        with parallel:
            for made in parallel(delayed(_make_here)(runs, store, verbose) for runs in todo):
                yield from made
    except D3Error:
        raise
    except Exception as error:  # of many kinds, as a rule a worker was killed
        raise D3Error(
            f"the worker processes failed ({type(error).__name__}: {error}); finished runs are "
            "kept. Start the same command again, with fewer --jobs if memory was short"
        ) from error


def _end_with(parent: int, *_: str) -> None:
    """This worker ends within a second of its parent, whatever it is doing."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _make_here(runs: list[Run], store: RunStore, verbose: bool) -> list[Made]:
    """Make and store the runs of a training; outcomes do not go through the pipe to the parent."""
    for run in runs:
        run.identity()  # reads the sources before the training, during which they may be edited

    def make(runs: Sequence[Run]) -> list[Made]:
        on_step = _tenths(runs) if verbose else None
        for outcome in execute(runs, store.checkpoint(runs), on_step):
            store.save(outcome)
        for run in runs:
            store.remove_checkpoints(run)
        return [Made(run.name) for run in runs]

    return _tried(make, runs)


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


def _on_dask(todo: list[list[Run]], store: RunStore, workers: Workers) -> Iterator[Made]:
    """Make trainings on the workers of a cluster."""
    with dask_cluster(workers.scheduler) as client:
        import cloudpickle
        from distributed import as_completed

        # Pickled here: Dask would try for ever on workers that cannot import a host family.
        pickled = [cloudpickle.dumps(runs) for runs in todo]
        identities = [[run.identity() for run in runs] for runs in todo]
        futures = client.map(_make_there, pickled, identities, pure=False)
        runs_of = dict(zip(futures, todo, strict=True))
        for future in as_completed(futures, loop=client.loop):
            if future.status == "finished":
                yield from future.result()
                continue
            # The worker cannot import a host family, for example, or was lost again and again.
            error = future.exception()
            for run in runs_of[future]:
                yield Made(run.name, problem=f"on the cluster: {type(error).__name__}: {error}")


def _make_there(pickled: bytes, identities: list[dict[str, Any]]) -> list[Made]:
    """Make the runs of a training on a worker of a cluster, which may not share the folder."""
    with _one_at_a_time:  # reading code is not safe in several threads either (Python 3.11)
        runs: list[Run] = pickle.loads(pickled)
        run, problem = runs[0], ""
        changes = [
            change
            for each, wanted in zip(runs, identities, strict=True)
            for change in differences(wanted, each.identity())
        ]
        if changes:
            told = ", ".join(dict.fromkeys(changes))
            problem = f"this worker has other code or versions than the command: {told}"
        try:
            found = digest(run.data, run.attributes)
        except OSError:
            found = None
        if found != run.data_digest:
            problem = f"data folder {run.data} is missing here, or has other contents"
        if problem:
            return [Made(run.name, problem=f"on {socket.gethostname()}: {problem}") for run in runs]
        return _tried(lambda runs: [Made(o.run.name, o) for o in execute(runs)], runs)


def _tried(make: Callable[[Sequence[Run]], list[Made]], runs: Sequence[Run]) -> list[Made]:
    """What ``make`` gives for the runs of a training, or what went wrong.

    The runs of a failed training get one each, so that the others are kept.
    """
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(runs[0].threads)
    try:
        with threadpool_limits(runs[0].threads):
            return make(runs)
    except StorageError:  # later runs could not be stored either
        raise
    except Exception as error:
        if len(runs) == 1 or isinstance(error, DataError):
            return [Made(run.name, problem=f"{type(error).__name__}: {error}") for run in runs]
    finally:
        torch.set_num_threads(before)
    return [made for run in runs for made in _tried(make, [run])]
