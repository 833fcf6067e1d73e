"""``d3 compare`` and ``d3 ablate``: plan a grid of runs, make those that are missing, report."""

from __future__ import annotations

import platform
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from d3_plugin.checks import takes
from d3_plugin.distillation.settings import DISTILLATION, D3Settings
from d3_plugin.errors import FailedConditionError
from d3_plugin.experiments.code import digest_of
from d3_plugin.experiments.comparison_result import Comparison
from d3_plugin.experiments.flags import command_line
from d3_plugin.experiments.parallel import run_all
from d3_plugin.experiments.plan import plan, validation_cuts
from d3_plugin.experiments.run import Outcome
from d3_plugin.experiments.store import RunStore
from d3_plugin.experiments.table_options import AblateOptions, CompareOptions
from d3_plugin.report.results import results, write_results
from d3_plugin.report.rows import (
    ABLATION,
    COMPARISON,
    FinishedRun,
    added,
    rows_of,
    with_additions,
)
from d3_plugin.report.verdict import failures, read_conditions

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


@takes(CompareOptions)
def compare(options: CompareOptions) -> Comparison:
    """Train each baseline with and without D³ on the same seeds and write a report.

    Cheap rivals, which need no training, are in the same table: calibrated stacking, logit
    adjustment, and an ensemble of the baseline's classifiers. A plugin, such as a loss term of
    your own, gets rows beside those of +D³. Writes ``results.json``, ``report.html``,
    ``table.csv``, ``table.tex``, and the pictures into ``figures``.

    The arguments are those of :class:`~d3_plugin.experiments.CompareOptions`.

    Raises:
        FailedConditionError: a condition of ``fail_if`` holds; all results are written before, and
            are its ``results``.
        D3Error: bad arguments, before any training starts; or runs failed.
        KeyboardInterrupt: finished runs are kept.
    """
    released = options.released if options.variants == "default,released" else None
    variants = {"baseline": None, "d3": options.d3_settings}
    variants |= {"released": released} if released else {}
    facts = {
        "cuts": options.cuts,
        "d3": asdict(options.d3_settings),
        "released": released and asdict(released),
        **({"validation": True} if options.validation else {}),
    }
    return _made(options, variants, facts)


@takes(AblateOptions)
def ablate(options: AblateOptions) -> Comparison:
    """Train each baseline without D³, with some of its losses, with all of D³, and as released.

    All on the same seeds; nothing is chosen. Writes ``ablation.json`` and ``ablation.html``. The
    folder may be that of a comparison: runs that both need are made once.

    The arguments are those of :class:`~d3_plugin.experiments.AblateOptions`.

    Raises:
        FailedConditionError: a condition of ``fail_if`` holds; all results are written before, and
            are its ``results``.
        D3Error: bad arguments, before any training starts; or runs failed.
        KeyboardInterrupt: finished runs are kept.
    """
    variants = ablation(options.d3_settings, options.released)
    facts = {"variants": {name: used and asdict(used) for name, used in variants.items()}}
    return _made(options, variants, facts)


def ablation(d3: D3Settings, released: D3Settings) -> dict[str, D3Settings | None]:
    """Settings of D³ by variant; ``baseline`` and ``d3`` are the runs that ``d3 compare`` makes."""
    off: dict[str, Any] = dict.fromkeys(DISTILLATION, 0.0)
    cls = replace(d3, **off)
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


def _made(
    options: CompareOptions | AblateOptions,
    variants: Mapping[str, D3Settings | None],
    facts: Mapping[str, Any],
) -> Comparison:
    """Run every variant on every seed, and write the report.

    Args:
        options: of the command.
        variants: settings of D³ by the variant's name; None for the host without D³.
        facts: further settings for the JSON file.

    Raises:
        FailedConditionError: a condition of ``fail_if`` holds.
    """
    from d3_plugin.report.page import write_report

    file = "results.json" if isinstance(options, CompareOptions) else "ablation.json"
    known, notes = TEXTS[file]
    plugins = {added("d3", name): plugin for name, plugin in options.added.items()}
    variants = {**variants, **dict.fromkeys(plugins, variants["d3"])}
    rows = rows_of(with_additions(known, options.added), variants, options.draws)
    keys = [row.key for row in rows]
    conditions = read_conditions(options.fail_if, options.hosts, keys, options.seeds)
    firsts = options.first_runs()
    data = firsts[0].data
    chosen_on: Mapping[int, Collection[int]] = dict.fromkeys(range(options.seeds), ())
    if isinstance(options, CompareOptions):
        chosen_on = validation_cuts(data, options.seeds, options.cuts)
    runs = plan(firsts, options.seeds, variants, set().union(*chosen_on.values()), plugins)
    out = Path(options.out)
    done = run_all(runs, RunStore(out), options, rerun=options.rerun)
    finished = [_for_report(outcome) for outcome in done.values()]
    settings = {
        **({"name": options.name} if options.name else {}),
        "adapters": list(options.hosts),
        "data": data,
        "seeds": options.seeds,
        "draws": options.draws,
        "device": options.device,
        "threads": options.threads,
        **({"attributes": str(options.attributes)} if options.attributes else {}),
        "machine": platform.machine(),
        "hosts": options.hosts,
        **({"plugins": list(options.added)} if options.added else {}),
        **facts,
    }
    # The runs of one seed and split are made by all the code that takes part.
    codes = [run.code for run in runs if (run.seed, run.split) == (0, "test")]
    digests = {"data": firsts[0].data_digest, "code": digest_of(codes)}
    made = results(
        settings,
        finished,
        rows,
        chosen_on,
        command=command_line(options, data),
        notes=notes,
        digests={name: value for name, value in digests.items() if value},
    )
    content = write_results(out / file, made)
    comparison = Comparison(content, out / file, write_report(out, file, content))
    if lines := failures(conditions, content["summary"]):
        failed = FailedConditionError("\n".join(f"failed: {line}" for line in lines))
        failed.results = comparison
        raise failed
    return replace(comparison, passed=tuple(options.fail_if))


def _for_report(made: Outcome) -> FinishedRun:
    run = made.run
    return FinishedRun(
        run.adapter, run.seed, run.split, run.variant, made.evaluation, record=made, d3=run.d3
    )
