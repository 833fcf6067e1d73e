"""``d3 tune``: random search on pseudo-unseen classes, for the baseline and then for D³ on it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from d3_plugin import __version__
from d3_plugin.checks import setting_problems
from d3_plugin.data import digest
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.errors import FailedRunsError, InputError
from d3_plugin.experiments.clusters import Backend
from d3_plugin.experiments.files import write_atomically
from d3_plugin.experiments.parallel import run_all
from d3_plugin.experiments.plan import Run
from d3_plugin.experiments.preflight import check
from d3_plugin.experiments.run import Outcome, find_family, host_settings
from d3_plugin.experiments.search import CRITERION, D3_SEARCH, Trial, best, judge, sample
from d3_plugin.experiments.settings_file import SettingsFile
from d3_plugin.experiments.store import RunStore

CLOSING = (
    "These numbers are of the best of several trials on few classes, so too good. Test rows were "
    "not there; to measure on them: d3 compare --settings {path} --data {data}"
)


def tune(
    adapter: str,
    data: str,
    out: Path,
    *,
    trials: int = 20,
    cuts: int = 3,
    seed: int = 0,
    jobs: int = 1,
    backend: Backend = "loky",
    scheduler: str | None = None,
    device: str = "cpu",
    draws: int = 3,
    start: SettingsFile | None = None,
    host: Mapping[str, Any] | None = None,
    d3: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Choose settings of a baseline, then of D³ on it; prints the trials, writes ``tuned.json``.

    Both get the same number of trials on the same cuts, and the first trial of both is to change
    nothing. A cut lets a quarter of the seen classes play unseen; its number is also the seed of
    the training on it, the same for every trial. Test rows are dropped before anything is trained
    (:func:`d3_plugin.data.without_test_rows`), so that no choice can depend on them. The choice is
    made by :data:`d3_plugin.experiments.search.CRITERION`.

    Args:
        adapter: name of a host family; its ``search`` says what is tried on the baseline.
        data: ``digits-DRAW`` or a folder.
        out: folder of ``tuned.json`` and of the runs; finished runs are not made again.
        trials: how many, of each.
        cuts: how many pseudo-unseen cuts each trial is scored on, at least 2.
        seed: of the search; the cuts are ``seed`` to ``seed + cuts - 1``.
        jobs, backend, scheduler, device, draws: as in :func:`d3_plugin.experiments.compare`.
        start: settings to start from.
        host, d3: settings that are left as they are given here.

    Returns:
        The content of ``tuned.json``.

    Raises:
        D3Error: bad options, data or folder, before any training starts; or runs failed.
        KeyboardInterrupt: finished runs are kept.
    """
    start, host, d3 = start or SettingsFile(), dict(host or {}), dict(d3 or {})
    if data == "digits":
        raise InputError(
            "d3 tune needs one problem, but 'digits' has other classes for every seed, and the "
            "training rows of one draw are test rows of another: use digits-0 to digits-5"
        )
    if cuts < 2:
        raise InputError(f"cuts must be at least 2, got {cuts}: one says most of its own classes")
    if not 0 <= seed <= 10**9:
        raise InputError(f"seed must be at least 0 and at most 10**9, got {seed}")
    check(data, device, backend, trials=trials, cuts=cuts, jobs=jobs, draws=draws)
    family = find_family(adapter)
    host_start, d3_start = {**start.host, **host}, {**start.d3, **d3}
    host_default = host_settings(family, host_start)
    setting_problems("settings of D³", D3Settings, d3_start).raise_as(InputError)
    for name, values in family.search.items():
        for value in values:  # a plugin's mistake should show before the search does
            host_settings(family, {name: value})
    # Everything that will be tried is made now: a bad combination shows before any training.
    host_changes = sample(family.search, trials, seed, host_default, list(host))
    hosts = [asdict(host_settings(family, {**host_start, **c})) for c in host_changes]
    d3_changes = sample(D3_SEARCH, trials, seed, D3Settings(**d3_start), list(d3))
    d3s = [D3Settings(**{**d3_start, **c}) for c in d3_changes]

    problem = digest(data)
    any_run = Run(adapter, data, problem, seed, "", "validation", {}, None, draws, device)

    store = RunStore(out)
    make = partial(run_all, store=store, jobs=jobs, backend=backend, scheduler=scheduler)

    def trial_runs(settings: dict[str, Any], d3: D3Settings | None) -> list[Run]:
        run = replace(any_run, variant=_variant(settings, d3), host=settings, d3=d3)
        return [replace(run, seed=cut) for cut in range(seed, seed + cuts)]

    if len(hosts) < len(d3s):
        print(
            f"{adapter} leaves only {len(hosts)} settings to try (HostFamily.search without those "
            f"given): the baseline has a smaller budget than +D³ with {len(d3s)}"
        )
    print(f"baseline: {len(hosts)} trials, {cuts} cuts each", flush=True)
    baseline = _judged(host_changes, [trial_runs(h, None) for h in hosts], make, store)
    chosen = best(baseline)
    print(f"+D³ on trial {chosen} of the baseline: {len(d3s)} trials, {cuts} cuts each", flush=True)
    with_d3 = _judged(d3_changes, [trial_runs(hosts[chosen], d) for d in d3s], make, store)
    chosen_d3 = best(with_d3)
    gain = with_d3[chosen_d3]["ausuc"] - baseline[chosen]["ausuc"]
    print(f"AUSUC of the chosen +D³ minus that of the chosen baseline, on the cuts: {gain:+.2%}")

    content = {
        "adapter": adapter,
        "host": {**host_start, **host_changes[chosen]},
        "d3": {**d3_start, **d3_changes[chosen_d3]},
        "tuned": {
            "data": problem or data,
            "criterion": CRITERION,
            "cuts": list(range(seed, seed + cuts)),
            "seed": seed,
            "draws": draws,
            "versions": {"d3_plugin": __version__, "torch": torch.__version__},
            "chosen": {"baseline": chosen, "d3": chosen_d3},
            "baseline": baseline,
            "d3": with_d3,
        },
    }
    path = out / "tuned.json"
    write_atomically(path, json.dumps(content, indent=1).encode())
    print(f"\n{CLOSING.format(path=path, data=data)}\n\n{path}")
    return content


def _variant(host: dict[str, Any], d3: D3Settings | None) -> str:
    """Named by content: a search with more trials finds those that it has in common with this."""
    content = json.dumps([host, d3 and asdict(d3)], sort_keys=True)
    kind = "baseline" if d3 is None else "d3"
    return f"{kind}-{hashlib.sha256(content.encode()).hexdigest()[:10]}"


def _judged(
    changes: list[dict[str, Any]],
    runs: list[list[Run]],
    make: Callable[[list[Run]], dict[str, Outcome]],
    store: RunStore,
) -> list[Trial]:
    """The trials, from the runs of each; prints them."""
    from d3_plugin.experiments.report import aligned  # needs matplotlib

    every = [run for of_trial in runs for run in of_trial]
    done: Mapping[str, Outcome | None]
    try:
        done = make(every)
    except FailedRunsError as error:  # settings that diverge must not end the search
        print(f"{error}\nA trial with a failed run is not chosen.", flush=True)
        done = {run.name: store.load(run) for run in every}
    trials = [
        judge(of_trial, [done[run.name] for run in of_runs])
        for of_trial, of_runs in zip(changes, runs, strict=True)
    ]
    print(aligned(_rows(trials)), flush=True)
    return trials


def _rows(trials: list[Trial]) -> list[list[str]]:
    """Header and trials; the chosen one has an arrow."""
    rows = [["trial", "AUSUC", "H", "best H", "changes"]]
    chosen = best(trials)
    for number, trial in enumerate(trials):
        values = [trial[name] for name in ("ausuc", "harmonic", "oracle_harmonic")]
        changes = " ".join(f"{k}={v}" for k, v in trial["changes"].items()) or "none"
        rows.append(
            [
                f"→ {number}" if number == chosen else f"  {number}",
                *("failed" if v is None else f"{v:.2%}" for v in values),
                changes,
            ]
        )
    return rows
