"""``d3 ablate``: D³ with parts of it switched off, on the test rows; nothing is chosen."""

from __future__ import annotations

import platform
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from d3_plugin.data import digest
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.experiments.clusters import Backend
from d3_plugin.experiments.parallel import run_all
from d3_plugin.experiments.plan import plan
from d3_plugin.experiments.preflight import check
from d3_plugin.experiments.run import find_family, host_settings
from d3_plugin.experiments.statistics import Outcomes, host_row, plain_row, tabulate
from d3_plugin.experiments.store import RunStore

ROWS = {
    "baseline": "baseline",
    "cls": "+ L_cls: a student that only starts as the teacher",
    "cls-kl": "+ L_cls, ID²SD in label space",
    "cls-be": "+ L_cls, ID²SD in embedding space",
    "cls-id2sd": "+ L_cls, ID²SD in both",
    "cls-od": "+ L_cls, O²DBD",
    "d3_host": "+D³, host's classifier alone",
    "d3_plain": "+D³, all of it, without its offset",
    "d3": "+D³, all of it",
    "released": "+D³, released formulas",
}
"""Key and title of every row; all but ``d3_host`` and ``d3_plain`` are trained variants."""

NOTES = (
    "Percent; mean ± half-width of the 95 % t interval over seeds. Δ: paired difference to the "
    "baseline of the same seed, data draw and initialisation. Settings are fixed beforehand and "
    "nothing is chosen, on test rows or others. The student's rows have the offset that "
    "seen_offset says, which changes H but not AUSUC (oracle H, the best over all offsets, is "
    "chosen on test rows and only a bound). The row of L_cls alone has a second classifier and the "
    "teacher's start, but no distilling loss: what it gains comes from these and from L_cls in the "
    "generator, and only what other rows gain beyond it comes from the losses."
)


def ablation(d3: D3Settings, released: D3Settings) -> dict[str, D3Settings | None]:
    """Settings of D³ by variant; ``baseline`` and ``d3`` are the runs that ``d3 compare`` makes."""
    cls = replace(d3, kl_weight=0.0, be_weight=0.0, od_weight=0.0)
    return {
        "baseline": None,
        "cls": cls,
        "cls-kl": replace(cls, kl_weight=d3.kl_weight),
        "cls-be": replace(cls, be_weight=d3.be_weight),
        "cls-id2sd": replace(d3, od_weight=0.0),
        "cls-od": replace(cls, od_weight=d3.od_weight),
        "d3": d3,
        "released": released,
    }


def ablate(
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
    released: D3Settings | None = None,
) -> dict[str, Any]:
    """Train every variant on the test problem of every seed; prints tables, writes ``out``.

    Files are ``ablation.json`` and ``ablation.html``, so that ``out`` may be a comparison's: runs
    that both need are made once.

    Args:
        adapters, data, out, seeds, jobs, backend, scheduler, device, draws, host: as in
            :func:`d3_plugin.experiments.compare`.
        d3: settings of D³ with all its parts.
        released: settings of the row of released formulas.

    Returns:
        The summary of each adapter.

    Raises:
        D3Error: bad options, data or folder, before any training starts; or runs failed.
        KeyboardInterrupt: finished runs are kept.
    """
    check(data, device, backend, seeds=seeds, jobs=jobs, draws=draws)
    from d3_plugin.experiments.report import text_table, write_report  # needs matplotlib

    d3 = d3 or D3Settings()
    variants = ablation(d3, released or D3Settings.released())
    hosts = {name: asdict(host_settings(find_family(name), host or {})) for name in adapters}
    runs = plan(hosts, data, digest(data), seeds, variants, draws=draws, device=device)
    done = run_all(runs, RunStore(out), jobs=jobs, backend=backend, scheduler=scheduler)
    outcomes: Outcomes = {
        (o.run.adapter, o.run.seed, "test", o.run.variant): o for o in done.values()
    }
    summaries = {}
    for adapter in adapters:
        per_seed = []
        for seed in range(seeds):
            made = {v: outcomes[adapter, seed, "test", v] for v in variants}
            rows = {variant: outcome.evaluation.metrics for variant, outcome in made.items()}
            per_seed.append(rows | host_row(made["d3"]) | plain_row(made["d3"]))
        summaries[adapter] = tabulate(per_seed, ROWS)
    settings = {
        "adapters": adapters,
        "data": data,
        "seeds": seeds,
        "draws": draws,
        "device": device,
        "machine": platform.machine(),
        "hosts": hosts,
        "variants": {name: v and asdict(v) for name, v in variants.items()},
    }
    files = ("ablation.json", "ablation.html")
    write_report(out, settings, outcomes, summaries, files=files, notes=NOTES)
    for adapter, summary in summaries.items():
        print(f"\n{adapter} on {data}, {seeds} seeds\n{text_table(summary)}")
    print(f"\n{NOTES}\n\n{out / files[1]}\n{out / files[0]}")
    return summaries
