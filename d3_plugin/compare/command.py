"""``d3 compare``: plan, run what is missing, summarise, report."""

from __future__ import annotations

import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

from d3_plugin.compare.clusters import Backend, unusable
from d3_plugin.compare.execute import find_family, host_settings
from d3_plugin.compare.parallel import run_all
from d3_plugin.compare.plan import plan
from d3_plugin.compare.store import RunStore
from d3_plugin.compare.summary import Outcomes, summarize
from d3_plugin.data import digest, load, pseudo_unseen
from d3_plugin.errors import InputError, MissingExtraError, Problems
from d3_plugin.settings import D3Settings

_MOST = 10_000  # of seeds, jobs and draws; more is a slip of the hand, and would fill the memory


def compare(
    adapters: list[str],
    data: str,
    out: Path,
    *,
    seeds: int = 3,
    jobs: int = 1,
    backend: Backend = "loky",
    scheduler: str | None = None,
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
        backend, scheduler: where to make them, as in :func:`~d3_plugin.compare.parallel.run_all`.
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
        import tqdm  # noqa: F401

        from d3_plugin.compare.report import NOTES, text_table, write_report
    except ImportError as error:
        raise MissingExtraError(
            f"d3 compare needs {error.name}: pip install 'd3-plugin[compare]'"
        ) from error
    problems = Problems("d3 compare")
    for name, number in (("seeds", seeds), ("jobs", jobs), ("draws", draws)):
        problems.check(
            1 <= number <= _MOST, f"{name} must be at least 1 and at most {_MOST}, got {number}"
        )
    problems.raise_as(InputError)
    d3 = d3 or D3Settings()
    hosts = {name: asdict(host_settings(find_family(name), host or {})) for name in adapters}
    _check(data, device, here=backend == "loky")  # a cluster's workers say themselves
    runs = plan(hosts, data, digest(data), seeds, d3=d3, draws=draws, device=device)
    done = run_all(runs, RunStore(out), jobs=jobs, backend=backend, scheduler=scheduler)
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


def _check(data: str, device: str, *, here: bool) -> None:
    """Everything that can fail for a reason of the user's, before hours of training."""
    problems = Problems("d3 compare")
    for problem in unusable(device, here=here):
        problems.add(problem)
    problems.raise_as(InputError)
    pseudo_unseen(load(data))
