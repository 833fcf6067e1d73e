"""``d3 compare`` and ``d3 ablate``: plan a grid of runs, make those that are missing, report."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from d3_plugin.data import GZSLData
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.errors import FailedConditionError, Problems
from d3_plugin.experiments.clusters import Backend
from d3_plugin.experiments.parallel import Progress, run_all
from d3_plugin.experiments.plan import plan, validation_cuts
from d3_plugin.experiments.preflight import Request, read_request
from d3_plugin.experiments.run import Outcome
from d3_plugin.experiments.store import RunStore
from d3_plugin.hosts.host import HostFamily
from d3_plugin.report.results import results, write_results
from d3_plugin.report.rows import ABLATION, COMPARISON, FinishedRun, rows_of
from d3_plugin.report.tables import aligned, table_rows
from d3_plugin.report.verdict import failures, read_conditions, verdict

NOTES = (
    "Percent; mean ± half-width of the 95 % t interval over seeds. Δ: paired difference to the "
    "baseline of the same seed, data draw and initialisation. Oracle H, the best H over all "
    "offsets, is chosen on test rows: an upper bound. seen_offset, which is part of +D³, changes H "
    "but not AUSUC. "
)
COMPARISON_NOTES = NOTES + (
    "Offsets of calibrated stacking and strengths of logit adjustment are chosen on pseudo-unseen "
    "classes cut from the training classes, once for all seeds of a problem; so are +D³'s weight "
    "of the student (by AUSUC) and offset (by H) in the row that says so. The baseline's ensemble "
    "has a classifier for each draw of features, which reduces variance. +D³ "
    "scores as final_classifier says; by default with the log-probabilities of the host's "
    "classifier, also shown alone, plus ensemble_weight times the student's."
)
ABLATION_NOTES = NOTES + (
    "Settings are fixed beforehand and nothing is chosen. The row of L_cls alone has a second "
    "classifier with D³'s start, from the teacher and the attributes, but no distillation loss. "
    "Only what other rows gain beyond it comes from the distillation losses. "
)

TEXTS = {
    "results.json": (COMPARISON, COMPARISON_NOTES),
    "ablation.json": (ABLATION, ABLATION_NOTES),
}
"""Rows that the table of a file with results may have, and the text beside it."""


def compare(
    adapter: str | HostFamily | None = None,
    data: str | GZSLData = "digits",
    out: str | Path = Path("runs/compare"),
    *,
    attributes: Path | None = None,
    validation: bool = False,
    seeds: int = 3,
    cuts: int = 3,
    draws: int = 3,
    preset: Literal["default", "released"] = "default",
    variants: Literal["default", "default,released"] = "default",
    settings: Path | None = None,
    host: Mapping[str, Any] | None = None,
    d3: Mapping[str, Any] | None = None,
    device: str = "cpu",
    threads: int = 1,
    jobs: int = 1,
    backend: Backend = "loky",
    scheduler: str | None = None,
    progress: Progress = "runs",
    fail_if: Sequence[str] = (),
) -> dict[str, Any]:
    """Train each baseline with and without D³ on the same seeds and write a report.

    Cheap rivals, which need no training, are in the same table: calibrated stacking, logit
    adjustment, and an ensemble of the baseline's classifiers. Writes ``results.json``,
    ``report.html``, ``table.csv``, ``table.tex``, and the pictures into ``figures``.

    Args:
        adapter: a host family: its name, its import path ``package.module:attribute``, several
            separated by commas, or ``all``; default: that of the settings file, or fclswgan. In
            Python also a :class:`~d3_plugin.HostFamily`.
        data: ``digits`` (other unseen classes for each seed), ``digits-DRAW``, or a folder with
            ``res101.mat`` and ``att_splits.mat``. In Python also a
            :class:`~d3_plugin.data.GZSLData`, which is written to ``out/data``.
        out: folder for runs and results; finished runs found there are not made again.
        attributes: another file with the attributes of the data folder, such as
            ``sent_splits.mat``.
        validation: choose offsets on the data folder's own validation split, not on random cuts;
            the number of cuts is then that of trainings on it. In Python see
            :func:`~d3_plugin.data.load_mat_folder`.
        seeds: number of seeds.
        cuts: number of pseudo-unseen cuts, at most one per seed, that offsets are chosen on. In
            Python see :func:`~d3_plugin.experiments.plan.validation_cuts`.
        draws: final classifiers per run, each trained on freshly drawn features.
        preset: D³'s default settings, or those of the released code.
        variants: with ``default,released``, a further row for the released formulas.
        settings: JSON file with settings, such as ``d3 tune`` writes.
        host: change of a setting of the host family, which overrides the file; may be repeated. In
            Python a dict of all changes.
        d3: change of a setting of D³, which overrides the file; may be repeated. In Python a dict
            of all changes.
        device: where to train: cpu, cuda, cuda:1, ...
        threads: CPU threads of each run; finished runs of another number, which have other rounding
            errors, are not used.
        jobs: trainings at the same time on this machine.
        backend: where runs are made: processes of this machine, or an existing cluster.
        scheduler: address of the cluster; default: $DASK_SCHEDULER_ADDRESS or $RAY_ADDRESS.
        progress: see :func:`~d3_plugin.experiments.parallel.run_all`.
        fail_if: exit with status 1 if this condition holds; may be repeated:
            ``[ADAPTER:][ROW.]NAME[.low|.high] (<|<=|>|>=) NUMBER`` on the summary in
            ``results.json``, in fractions of 1 as there, such as ``d_ausuc.high < 0``. Without
            ADAPTER for each of them; without ROW of the one that the verdict is on, ``d3_chosen``
            if there is one, else ``d3``. NAME is unseen, seen, harmonic, ausuc, zsl or
            oracle_harmonic; ``d_NAME`` its difference to the baseline, ``d_NAME_to_ROW`` that to
            another row. It compares the mean, or with ``.low`` or ``.high`` an end of the 95 %
            interval. In Python a list of all conditions.

    Returns:
        The summary of each adapter.

    Raises:
        FailedConditionError: a condition of ``fail_if`` holds; all results are written before.
        D3Error: bad arguments, before any training starts; or runs failed.
        KeyboardInterrupt: finished runs are kept.
    """
    given = locals()
    request = read_request(given, Problems("compare"))
    released = request.released if variants == "default,released" else None
    used = {"baseline": None, "d3": request.d3} | ({"released": released} if released else {})
    facts = {"cuts": cuts, "d3": asdict(request.d3), "released": released and asdict(released)}
    chosen_on = validation_cuts(request.data, seeds, cuts)
    return run_grid(given, request, used, facts, chosen_on, "results.json")


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
    adapter: str | HostFamily | None = None,
    data: str | GZSLData = "digits",
    out: str | Path = Path("runs/ablate"),
    *,
    attributes: Path | None = None,
    seeds: int = 3,
    draws: int = 3,
    settings: Path | None = None,
    host: Mapping[str, Any] | None = None,
    d3: Mapping[str, Any] | None = None,
    device: str = "cpu",
    threads: int = 1,
    jobs: int = 1,
    backend: Backend = "loky",
    scheduler: str | None = None,
    progress: Progress = "runs",
    fail_if: Sequence[str] = (),
) -> dict[str, Any]:
    """Train each baseline without D³, with some of its losses, with all of D³, and as released.

    All on the same seeds; nothing is chosen. Writes ``ablation.json`` and ``ablation.html``. The
    folder may be that of a comparison: runs that both need are made once.

    Args:
        adapter, data, out, attributes, seeds, draws, settings, host, d3, device, threads, jobs,
            backend, scheduler, progress, fail_if: as in :func:`d3_plugin.experiments.compare`.

    Returns:
        The summary of each adapter.

    Raises:
        FailedConditionError: a condition of ``fail_if`` holds; all results are written before.
        D3Error: bad arguments, before any training starts; or runs failed.
        KeyboardInterrupt: finished runs are kept.
    """
    given = locals()
    request = read_request(given, Problems("ablate"))
    variants = ablation(request.d3, request.released)
    facts = {"variants": {name: used and asdict(used) for name, used in variants.items()}}
    chosen_on: dict[int, list[int]] = {seed: [] for seed in range(seeds)}
    return run_grid(given, request, variants, facts, chosen_on, "ablation.json")


def run_grid(
    given: Mapping[str, Any],
    request: Request,
    variants: Mapping[str, D3Settings | None],
    facts: Mapping[str, Any],
    chosen_on: Mapping[int, Collection[int]],
    file: str,
) -> dict[str, Any]:
    """Run every variant on every seed; write the report and print its tables.

    Args:
        given, request: arguments of the command, and what they add up to.
        variants: settings of D³ by the variant's name; None for the host without D³.
        facts: further settings for the JSON file.
        chosen_on: for each seed the seeds of the validation runs that offsets are chosen on.
        file: name of the JSON file, of :data:`TEXTS`.

    Returns:
        The summary of each adapter.
    """
    from d3_plugin.report.page import write_report

    data, out, seeds = request.data, Path(given["out"]), given["seeds"]
    titles, notes = TEXTS[file]
    rows = rows_of(titles, variants, given["draws"])
    conditions = read_conditions(given["fail_if"], request.hosts, [row.key for row in rows], seeds)
    how = {name: given[name] for name in ("draws", "device", "threads")}
    other = {name: given[name] for name in ("attributes", "validation") if given.get(name)}
    planned = {**how, **other, "validated": set().union(*chosen_on.values())}
    runs = plan(
        request.hosts, data, request.digest, seeds, variants, families=request.foreign, **planned
    )
    where = {name: given[name] for name in ("jobs", "backend", "scheduler", "progress")}
    done = run_all(runs, RunStore(out), **where)
    finished = [_finished(outcome) for outcome in done.values()]
    settings = {
        "adapters": list(request.hosts),
        "data": data,
        "seeds": seeds,
        **how,
        **{name: value if value is True else str(value) for name, value in other.items()},
        **({"adapter": path} if isinstance(path := given["adapter"], str) and ":" in path else {}),
        "machine": platform.machine(),
        "hosts": request.hosts,
        **facts,
    }
    digests = {"data": request.digest} if request.digest else {}
    told = command(settings, request.families)
    content = results(
        settings, finished, rows, chosen_on, command=told, notes=notes, digests=digests
    )
    write_results(out / file, content)
    page, summaries = write_report(out, file), dict(content["summary"])
    for adapter, summary in summaries.items():
        counted = f"{seeds} seed{'s' * (seeds != 1)}"
        print(f"\n{adapter} on {data}, {counted}\n{aligned(table_rows(summary))}")
    print(f"\n{notes}\n")
    for adapter, summary in summaries.items():
        print(verdict(adapter, summary))
    print(f"\n{page}\n{out / file}")
    if lines := failures(conditions, summaries):
        raise FailedConditionError("\n".join(f"failed: {line}" for line in lines))
    if conditions:
        print(f"passed: none of --fail-if {'; '.join(given['fail_if'])}")
    return summaries


def _finished(outcome: Outcome) -> FinishedRun:
    """What the report needs of it."""
    run = outcome.run
    return FinishedRun(
        adapter=run.adapter,
        seed=run.seed,
        split=run.split,
        variant=run.variant,
        evaluation=outcome.evaluation,
        data_name=outcome.data_name,
        class_names=outcome.class_names,
        d3=run.d3,
        history=outcome.history,
        d3_history=outcome.d3_history,
        projection=outcome.projection,
        generator_start=outcome.generator_start,
        generator_mean=outcome.generator_mean,
        seconds=outcome.seconds,
        finished=outcome.finished,
    )


def command(settings: Mapping[str, Any], families: Mapping[str, HostFamily]) -> str:
    """The ``d3`` command that these settings are of, without its ``--out``."""
    verb = "ablate" if "variants" in settings else "compare"
    words = ["d3", verb, "--adapter", settings.get("adapter", ",".join(settings["adapters"]))]
    for name in ("data", "attributes", "seeds", "cuts", "draws", "device", "threads"):
        if name in settings and (name, settings[name]) != ("threads", 1):
            words += [f"--{name}", str(settings[name])]
    words += ["--validation"] if settings.get("validation") else []
    words += ["--variants", "default,released"] if settings.get("released") else []
    hosts: dict[str, Any] = {}
    for adapter, used in settings["hosts"].items():
        default = asdict(families[adapter].settings())
        hosts |= {name: value for name, value in used.items() if value != default[name]}
    of_d3 = settings["d3"] if verb == "compare" else settings["variants"]["d3"]
    d3 = {name: value for name, value in of_d3.items() if value != getattr(D3Settings(), name)}
    for flag, changes in (("--host", hosts), ("--set", d3)):
        for key, value in changes.items():
            words += [flag, f"{key}={value}"]
    return shlex.join(words)
