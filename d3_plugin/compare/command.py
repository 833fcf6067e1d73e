"""``d3 compare``: plan, run what is missing, summarise, report."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from d3_plugin.compare.execute import Outcome, execute, find_family, host_settings
from d3_plugin.compare.plan import Run, plan
from d3_plugin.compare.store import RunStore, write_atomically
from d3_plugin.compare.summary import Outcomes, summarize
from d3_plugin.data import digest, load, pseudo_unseen
from d3_plugin.errors import D3Error, InputError, MissingExtraError, Problems
from d3_plugin.settings import D3Settings


def compare(
    adapters: list[str],
    data: str,
    out: Path,
    *,
    seeds: int = 3,
    jobs: int = 1,
    device: str = "cpu",
    draws: int = 3,
    host: dict[str, Any] | None = None,
    d3: D3Settings | None = None,
) -> dict[str, Any]:
    """Compare baselines with and without D³; prints progress and tables, writes ``out``.

    Args:
        adapters: names of host families.
        data: ``digits`` (another draw of classes for each seed), ``digits-DRAW``, or a folder.
        out: folder of the results; finished runs found there are not made again.
        seeds: how many.
        jobs: runs at the same time, each on one thread; with 1, a run uses every core.
        device: where to train.
        draws: how many times each final classifier is trained on freshly drawn features.
        host: changes to the host family's settings.
        d3: settings of D³.

    Returns:
        The summary of each adapter.

    Raises:
        D3Error: bad options, data or folder; before any training starts.
        KeyboardInterrupt: finished runs are kept.
    """
    try:  # before any run: the report at the end needs them
        from tqdm import tqdm

        from d3_plugin.compare.report import NOTES, text_table, write_report
    except ImportError as error:
        raise MissingExtraError(
            f"d3 compare needs {error.name}: pip install 'd3-plugin[compare]'"
        ) from error
    if min(seeds, jobs, draws) < 1:
        raise InputError(f"seeds, jobs and draws must be at least 1: {seeds}, {jobs}, {draws}")
    d3 = d3 or D3Settings()
    hosts = {name: asdict(host_settings(find_family(name), host or {})) for name in adapters}
    store = RunStore(out)
    _check(data, device, store)
    runs = plan(hosts, data, digest(data), seeds, d3=d3, draws=draws, device=device)
    done = {run.name: outcome for run in runs if (outcome := store.load(run)) is not None}
    todo = [run for run in runs if run.name not in done]
    print(f"{len(runs)} runs, {len(done)} of them finished earlier; results in {out}", flush=True)
    with tqdm(total=len(runs), initial=len(done), unit="run", file=sys.stderr) as bar:
        for outcome in _outcomes(todo, store, jobs):
            done[outcome.run.name] = outcome
            bar.update()
            bar.write(f"{outcome.run.name:<40} {outcome.evaluation}  {outcome.seconds:.0f} s")
    outcomes: Outcomes = {
        (o.run.adapter, o.run.seed, o.run.split, o.run.variant): o for o in done.values()
    }
    summaries = {adapter: summarize(outcomes, adapter, range(seeds)) for adapter in adapters}
    settings = {
        "adapters": adapters,
        "data": data,
        "seeds": seeds,
        "draws": draws,
        "device": device,
        "machine": platform.machine(),
        "hosts": hosts,
        "d3": asdict(d3),
    }
    write_report(out, settings, outcomes, summaries)
    for adapter, summary in summaries.items():
        print(f"\n{adapter} on {data}, {seeds} seeds\n{text_table(summary)}")
    print(f"\n{NOTES}\n\n{out / 'report.html'}\n{out / 'results.json'}")
    return summaries


def _check(data: str, device: str, store: RunStore) -> None:
    """Everything that can fail for a reason of the user's, before hours of training."""
    probe = store.folder / ".writable"
    try:
        write_atomically(probe, b"")
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write to {store.folder}: {error}") from error
    try:
        usable = torch.device(device).type != "cuda" or torch.cuda.is_available()
    except RuntimeError as error:
        raise InputError(f"device {device!r}: {str(error).splitlines()[0]}") from error
    if not usable:
        raise InputError(f"device {device!r}: this PyTorch sees no GPU; use --device cpu")
    pseudo_unseen(load(data))


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
