"""Makes the runs of a grid that are not finished yet, several at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import torch
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from d3_plugin.compare.execute import Outcome, execute
from d3_plugin.compare.plan import Run
from d3_plugin.compare.store import RunStore
from d3_plugin.errors import D3Error, Problems


def run_all(runs: list[Run], store: RunStore, *, jobs: int = 1) -> dict[str, Outcome]:
    """Every run's outcome: loaded where it is finished, made and stored where not; shows progress.

    Args:
        runs: a grid of independent runs with different names.
        store: where finished runs are.
        jobs: runs at the same time, each on one thread; with 1, a run uses every core.

    Returns:
        Outcomes by the run's name.

    Raises:
        D3Error: a stored run is damaged or of other settings, before any run is made; or runs
            failed: each is named at the end, and the others are kept.
        KeyboardInterrupt: finished runs are kept.
    """
    from tqdm import tqdm  # of the extra "compare"; the command has looked whether it is there

    done = {run.name: outcome for run in runs if (outcome := store.load(run)) is not None}
    todo = [run for run in runs if run.name not in done]
    print(
        f"{len(runs)} runs, {len(done)} of them finished earlier; results in {store.folder.parent}",
        flush=True,
    )
    with tqdm(total=len(runs), initial=len(done), unit="run", file=sys.stderr) as bar:
        for outcome in _outcomes(todo, store, jobs):
            done[outcome.run.name] = outcome
            bar.update()
            bar.write(f"{outcome.run.name:<40} {outcome.evaluation}  {outcome.seconds:.0f} s")
    return done


def _outcomes(todo: list[Run], store: RunStore, jobs: int) -> Iterable[Outcome]:
    """Make the runs, in parallel, and yield each as soon as it is finished and stored.

    Raises:
        D3Error: at the end, so that one failing run does not cost the others; names each.
    """
    tasks = (delayed(_execute_and_store)(run, store, jobs) for run in todo)
    problems = Problems("runs failed; the others are kept, start again after a remedy")
    try:
        for answer in Parallel(n_jobs=jobs, return_as="generator_unordered")(tasks):
            if isinstance(answer, str):
                problems.add(answer)
            else:
                yield answer
    except TerminatedWorkerError as error:
        raise D3Error(
            "a worker process was killed, probably for want of memory; finished runs are kept. "
            "Start the same command again with a smaller --jobs"
        ) from error
    problems.raise_as(D3Error)


def _execute_and_store(run: Run, store: RunStore, jobs: int) -> Outcome | str:
    """The outcome, or what went wrong."""
    if jobs > 1:
        torch.set_num_threads(1)
    try:
        outcome = execute(run)
        store.save(outcome)
    except Exception as error:
        return f"{run.name}: {type(error).__name__}: {error}"
    return outcome
