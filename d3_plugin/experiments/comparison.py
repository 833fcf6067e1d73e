"""``d3 compare`` and ``d3 ablate``: plan a grid of runs, make those that are missing, report."""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterable, Mapping
from dataclasses import KW_ONLY, asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from d3_plugin.checks import Effort, takes
from d3_plugin.distillation.settings import DISTILLATION, D3Settings
from d3_plugin.errors import FailedConditionError, Problems
from d3_plugin.experiments.code import digest_of
from d3_plugin.experiments.families import find_plugins
from d3_plugin.experiments.flags import command_line
from d3_plugin.experiments.options import CutOptions, RunOptions, noted
from d3_plugin.experiments.parallel import run_all
from d3_plugin.experiments.plan import plan, validation_cuts
from d3_plugin.experiments.run import Outcome
from d3_plugin.experiments.store import RunStore
from d3_plugin.report.results import Comparison, results, write_results
from d3_plugin.report.rows import TEXTS, FinishedRun, added, rows_of, with_additions
from d3_plugin.report.verdict import failures, read_conditions

_OPTIONAL = ("name", "attributes", "plugins", "validation")
"""Settings that a file with results only has if they are used."""


@dataclass(frozen=True)
class TableOptions(RunOptions):
    """Options of the commands that make a table over several seeds.

    Attributes:
        seeds: number of seeds.
        plugins: a plugin to try on top of +D³, ``package.module:object``, also of a module in the
            current folder; may be repeated. Each adds rows, "+D³ + OBJECT", that are compared with
            +D³. In Python a list of plugin objects, modules or import paths; objects
            are named by their class.
        fail_if: exit with status 1 if this condition holds; may be repeated:
            ``[ADAPTER:][ROW.]NAME[.low|.high] (<|<=|>|>=) NUMBER`` on the summary in
            ``results.json``, in fractions of 1 as there, such as ``d_ausuc.high < 0``. Without
            ADAPTER for each of them; without ROW of the one that the verdict is on, ``d3_chosen``
            if there is one, else ``d3``. NAME is unseen, seen, harmonic, ausuc, zsl or
            oracle_harmonic; ``d_NAME`` its difference to the baseline, ``d_NAME_to_ROW`` that to
            another row. Compares the mean, or .low/.high, the ends of the 95 % interval. In
            Python a list of all conditions.
        name: of the experiment, the title of its report.
    """

    results_file: ClassVar[str]

    _: KW_ONLY
    seeds: Effort = 3
    name: str | None = None
    plugins: Iterable[Any] = ()
    fail_if: Iterable[str] = ()

    def _check(self, problems: Problems) -> None:
        super()._check(problems)
        with noted(problems):
            self.added  # noqa: B018 - finds and checks them

    @cached_property
    def added(self) -> dict[str, Any]:
        """What is added to +D³, by the name of its row."""
        return find_plugins(self.plugins)

    def chosen_on(self, data: str) -> Mapping[int, Collection[int]]:
        """For each seed, the seeds of the validation runs that its test run chooses on: none."""
        return dict.fromkeys(range(self.seeds), ())

    @property
    def plugin_paths(self) -> list[str]:
        """Import paths of the plugins, or names of objects."""
        names = zip(self.plugins, self.added, strict=False)
        return [given if isinstance(given, str) else name for given, name in names]


@dataclass(frozen=True)
class CompareOptions(CutOptions, TableOptions):
    """Arguments of :func:`compare`, the flags of ``d3 compare``.

    Attributes:
        cuts: number of pseudo-unseen cuts, at most one per seed, that offsets are chosen on. In
            Python see :func:`~d3_plugin.experiments.plan.validation_cuts`.
        preset: D³'s default settings; ``end-to-end``, which also trains the generator on D³'s
            losses, at 3 % of its gradient; or ``released``, those of the authors' code.
        variants: with ``default,released``, a further row for the released formulas.
    """

    command: ClassVar[str] = "compare"
    results_file: ClassVar[str] = "results.json"

    out: str | Path = Path("runs/compare")
    _: KW_ONLY
    preset: Literal["default", "end-to-end", "released"] = "default"
    variants: Literal["default", "default,released"] = "default"

    @cached_property
    def d3_settings(self) -> D3Settings:
        """All settings of D³."""
        presets = {"end-to-end": D3Settings.end_to_end, "released": D3Settings.released}
        return presets.get(self.preset, D3Settings)(**self.d3_changes)

    def chosen_on(self, data: str) -> Mapping[int, Collection[int]]:
        return validation_cuts(data, self.seeds, self.cuts)


@dataclass(frozen=True)
class AblateOptions(TableOptions):
    """Arguments of :func:`ablate`, the flags of ``d3 ablate``.

    Attributes:
        fail_if: exit with status 1 if this condition on ``ablation.json`` holds; may be repeated.
            Written as for ``d3 compare``; without ROW it is of the row ``d3``, for example
            ``d_ausuc_to_cls.high < 0``. In Python a list of all conditions.
    """

    command: ClassVar[str] = "ablate"
    results_file: ClassVar[str] = "ablation.json"

    out: str | Path = Path("runs/ablate")


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
        "validation": options.validation,
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
    options: TableOptions,
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

    known, notes = TEXTS[options.results_file]
    plugins = {added("d3", name): plugin for name, plugin in options.added.items()}
    variants = {**variants, **dict.fromkeys(plugins, variants["d3"])}
    rows = rows_of(with_additions(known, options.added), variants, options.draws)
    keys = [row.key for row in rows]
    conditions = read_conditions(options.fail_if, options.hosts, keys, options.seeds)
    firsts = options.first_runs()
    data = firsts[0].data
    chosen_on = options.chosen_on(data)
    runs = plan(firsts, options.seeds, variants, set().union(*chosen_on.values()), plugins)
    out = Path(options.out)
    done = run_all(runs, RunStore(out), options, rerun=options.rerun)
    finished = [_for_report(outcome) for outcome in done.values()]
    settings = {
        "name": options.name,
        "adapters": list(options.hosts),
        "data": data,
        "seeds": options.seeds,
        "draws": options.draws,
        "device": options.device,
        "threads": options.threads,
        "attributes": options.attributes and str(options.attributes),
        "machine": platform.machine(),
        "hosts": options.hosts,
        "plugins": list(options.added),
        **facts,
    }
    settings = {name: value for name, value in settings.items() if value or name not in _OPTIONAL}
    # The runs of one seed and split are made by all the code that takes part.
    codes = [run.code for run in runs if (run.seed, run.split) == (0, "test")]
    digests = {"data": firsts[0].data_digest, "code": digest_of(codes)}
    made = results(
        settings,
        finished,
        rows,
        chosen_on,
        command=command_line(options, data, options.plugin_paths),
        notes=notes,
        digests={name: value for name, value in digests.items() if value},
    )
    content = write_results(out / options.results_file, made)
    page = write_report(out, options.results_file, content)
    comparison = Comparison(content, out / options.results_file, page)
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
