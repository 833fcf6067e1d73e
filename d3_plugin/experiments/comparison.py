"""``d3 compare``: plan, run what is missing, summarise, report."""

from __future__ import annotations

import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

from d3_plugin.data import digest
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.experiments.clusters import Backend
from d3_plugin.experiments.parallel import run_all
from d3_plugin.experiments.plan import plan, validation_cuts
from d3_plugin.experiments.preflight import check
from d3_plugin.experiments.run import find_family, host_settings
from d3_plugin.experiments.statistics import Outcomes, summarize
from d3_plugin.experiments.store import RunStore


def compare(
    adapters: list[str],
    data: str,
    out: Path,
    *,
    seeds: int = 3,
    cuts: int = 3,
    jobs: int = 1,
    backend: Backend = "loky",
    scheduler: str | None = None,
    device: str = "cpu",
    draws: int = 3,
    host: dict[str, Any] | None = None,
    d3: D3Settings | None = None,
    released: D3Settings | None = None,
) -> dict[str, Any]:
    """Compare baselines with and without D³; prints progress and tables, writes ``out``.

    Args:
        adapters: names of host families.
        data: ``digits`` (another draw of classes for each seed), ``digits-DRAW``, or a folder.
        out: folder of the results; finished runs found there are not made again.
        seeds: how many.
        cuts: how many pseudo-unseen cuts, at most one per seed, the rivals' offsets are chosen on;
            see :func:`~d3_plugin.experiments.plan.validation_cuts`.
        jobs: runs at the same time, each on one thread; with 1, a run uses every core.
        backend, scheduler: where to make them, as in
            :func:`~d3_plugin.experiments.parallel.run_all`.
        device: where to train.
        draws: how many times each final classifier is trained on freshly drawn features.
        host: changes to the host family's settings.
        d3: settings of D³.
        released: settings of a further row, without offset; None for none.

    Returns:
        The summary of each adapter.

    Raises:
        D3Error: bad options, data or folder; before any training starts.
        KeyboardInterrupt: finished runs are kept.
    """
    check(data, device, backend, seeds=seeds, cuts=cuts, jobs=jobs, draws=draws)
    from d3_plugin.experiments.report import NOTES, text_table, write_report  # needs matplotlib

    d3 = d3 or D3Settings()
    hosts = {name: asdict(host_settings(find_family(name), host or {})) for name in adapters}
    problem = hosts, data, digest(data), seeds
    chosen_on = validation_cuts(data, seeds, cuts)
    validated = set().union(*chosen_on.values())
    pair = {"baseline": None, "d3": d3}
    runs = plan(*problem, pair, draws=draws, device=device, validated=validated)
    if released is not None:  # no offset is chosen for it: the test problem will do
        runs += plan(*problem, {"released": released}, draws=draws, device=device)
    done = run_all(runs, RunStore(out), jobs=jobs, backend=backend, scheduler=scheduler)
    outcomes: Outcomes = {
        (o.run.adapter, o.run.seed, o.run.split, o.run.variant): o for o in done.values()
    }
    summaries = {adapter: summarize(outcomes, adapter, chosen_on) for adapter in adapters}
    settings = {
        "adapters": adapters,
        "data": data,
        "seeds": seeds,
        "cuts": cuts,
        "draws": draws,
        "device": device,
        "machine": platform.machine(),
        "hosts": hosts,
        "d3": asdict(d3),
        "released": released and asdict(released),
    }
    write_report(out, settings, outcomes, summaries)
    for adapter, summary in summaries.items():
        print(f"\n{adapter} on {data}, {seeds} seeds\n{text_table(summary)}")
    print(f"\n{NOTES}\n\n{out / 'report.html'}\n{out / 'results.json'}")
    return summaries
