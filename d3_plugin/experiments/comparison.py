"""``d3 compare`` and ``d3 ablate``: plan a grid of runs, make those that are missing, report."""

from __future__ import annotations

import html
import platform
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from d3_plugin.checks import Effort
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.errors import FailedConditionError
from d3_plugin.experiments.code import digest_of
from d3_plugin.experiments.flags import command_line, takes
from d3_plugin.experiments.options import CutOptions, RunOptions
from d3_plugin.experiments.parallel import run_all
from d3_plugin.experiments.plan import plan, validation_cuts
from d3_plugin.experiments.run import Outcome
from d3_plugin.experiments.store import RunStore
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


@dataclass(frozen=True)
class CompareOptions(CutOptions):
    """Arguments of :func:`compare`, the flags of ``d3 compare``.

    Attributes:
        seeds: number of seeds.
        cuts: number of pseudo-unseen cuts, at most one per seed, that offsets are chosen on. In
            Python see :func:`~d3_plugin.experiments.plan.validation_cuts`.
        preset: D³'s default settings; ``end-to-end``, which also trains the generator on D³'s
            losses, at 3 % of its gradient; or ``released``, those of the authors' code.
        variants: with ``default,released``, a further row for the released formulas.
        fail_if: exit with status 1 if this condition holds; may be repeated:
            ``[ADAPTER:][ROW.]NAME[.low|.high] (<|<=|>|>=) NUMBER`` on the summary in
            ``results.json``, in fractions of 1 as there, such as ``d_ausuc.high < 0``. Without
            ADAPTER for each of them; without ROW of the one that the verdict is on, ``d3_chosen``
            if there is one, else ``d3``. NAME is unseen, seen, harmonic, ausuc, zsl or
            oracle_harmonic; ``d_NAME`` its difference to the baseline, ``d_NAME_to_ROW`` that to
            another row. Compares the mean, or .low/.high, the ends of the 95 % interval. In
            Python a list of all conditions.
    """

    command: ClassVar[str] = "compare"

    out: str | Path = Path("runs/compare")
    _: KW_ONLY
    seeds: Effort = 3
    preset: Literal["default", "end-to-end", "released"] = "default"
    variants: Literal["default", "default,released"] = "default"
    fail_if: Iterable[str] = ()

    @cached_property
    def d3_settings(self) -> D3Settings:
        """All settings of D³."""
        presets = {"end-to-end": D3Settings.end_to_end, "released": D3Settings.released}
        return presets.get(self.preset, D3Settings)(**self.d3_changes)


@dataclass(frozen=True)
class AblateOptions(RunOptions):
    """Arguments of :func:`ablate`, the flags of ``d3 ablate``; see :class:`CompareOptions`."""

    command: ClassVar[str] = "ablate"

    out: str | Path = Path("runs/ablate")
    _: KW_ONLY
    seeds: Effort = 3
    fail_if: Iterable[str] = ()


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` and :func:`ablate` give; all of it is on disk as well.

    Attributes:
        content: of the JSON file, see ``results.schema.json``.
        file: its path.
        page: path of the report.
        passed: the conditions of ``fail_if``, if none of them holds.
    """

    content: dict[str, Any]
    file: Path
    page: Path
    passed: tuple[str, ...] = ()

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """For each adapter the rows of its table by key: ``title``, and ``metrics`` by name.

        A metric has ``mean``, ``half_width``, ``per_seed``, and its ``difference`` to the baseline.
        """
        summary: dict[str, dict[str, Any]] = self.content["summary"]
        return summary

    @property
    def verdicts(self) -> dict[str, str]:
        """For each adapter, in one sentence, what D³ changes."""
        return {adapter: verdict(adapter, rows) for adapter, rows in self.rows.items()}

    @property
    def seeds(self) -> int:
        """Their number."""
        return int(self.content["settings"]["seeds"])

    def to_dict(self) -> dict[str, Any]:
        """:attr:`rows`, of types that JSON has."""
        return self.rows

    def __repr__(self) -> str:
        tables = "\n\n".join(
            f"{caption}\n{aligned(table_rows(rows))}" for caption, rows in self._captioned()
        )
        closing = f"passed: none of --fail-if {'; '.join(self.passed)}\n" if self.passed else ""
        said = "\n".join(self.verdicts.values())
        notes = self.content["notes"]
        return f"{tables}\n\n{notes}\n\n{said}\n{closing}\n{self.page}\n{self.file}"

    def _repr_html_(self) -> str:
        """The tables, for notebooks."""
        tables = []
        for caption, rows in self._captioned():
            lines = (
                "".join(f"<td>{html.escape(cell)}</td>" for cell in line)
                for line in table_rows(rows)
            )
            body = "".join(f"<tr>{line}</tr>" for line in lines)
            tables.append(f"<table><caption>{html.escape(caption)}</caption>{body}</table>")
        return "".join(tables) + "".join(f"<p>{html.escape(v)}</p>" for v in self.verdicts.values())

    def _captioned(self) -> Iterator[tuple[str, dict[str, Any]]]:
        data, counted = self.content["settings"]["data"], f"{self.seeds} seed"
        for adapter, rows in self.rows.items():
            yield f"{adapter} on {data}, {counted}{'s' * (self.seeds != 1)}", rows


@takes(CompareOptions)
def compare(options: CompareOptions) -> Comparison:
    """Train each baseline with and without D³ on the same seeds and write a report.

    Cheap rivals, which need no training, are in the same table: calibrated stacking, logit
    adjustment, and an ensemble of the baseline's classifiers. Writes ``results.json``,
    ``report.html``, ``table.csv``, ``table.tex``, and the pictures into ``figures``.

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
    rows = rows_of(known, variants, options.draws)
    keys = [row.key for row in rows]
    conditions = read_conditions(options.fail_if, options.hosts, keys, options.seeds)
    firsts = options.first_runs()
    data = firsts[0].data
    chosen_on: Mapping[int, Collection[int]] = dict.fromkeys(range(options.seeds), ())
    if isinstance(options, CompareOptions):
        chosen_on = validation_cuts(data, options.seeds, options.cuts)
    runs = plan(firsts, options.seeds, variants, set().union(*chosen_on.values()))
    out = Path(options.out)
    done = run_all(runs, RunStore(out), options, rerun=options.rerun)
    finished = [_finished(outcome) for outcome in done.values()]
    settings = {
        "adapters": list(options.hosts),
        "data": data,
        "seeds": options.seeds,
        "draws": options.draws,
        "device": options.device,
        "threads": options.threads,
        **({"attributes": str(options.attributes)} if options.attributes else {}),
        "machine": platform.machine(),
        "hosts": options.hosts,
        **facts,
    }
    digests = {"data": firsts[0].data_digest, "code": digest_of([run.code for run in firsts])}
    content = results(
        settings,
        finished,
        rows,
        chosen_on,
        command=command_line(options, data),
        notes=notes,
        digests={name: value for name, value in digests.items() if value},
    )
    write_results(out / file, content)
    comparison = Comparison(content, out / file, write_report(out, file))
    if lines := failures(conditions, content["summary"]):
        failed = FailedConditionError("\n".join(f"failed: {line}" for line in lines))
        failed.results = comparison
        raise failed
    return replace(comparison, passed=tuple(options.fail_if))


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
