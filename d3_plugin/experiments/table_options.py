"""The options of ``d3 compare`` and ``d3 ablate``, which make a table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from d3_plugin.checks import Effort
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.errors import Problems
from d3_plugin.experiments.added_plugins import find_plugins
from d3_plugin.experiments.options import CutOptions, RunOptions, noted


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

    out: str | Path = Path("runs/compare")
    _: KW_ONLY
    preset: Literal["default", "end-to-end", "released"] = "default"
    variants: Literal["default", "default,released"] = "default"

    @cached_property
    def d3_settings(self) -> D3Settings:
        """All settings of D³."""
        presets = {"end-to-end": D3Settings.end_to_end, "released": D3Settings.released}
        return presets.get(self.preset, D3Settings)(**self.d3_changes)


@dataclass(frozen=True)
class AblateOptions(TableOptions):
    """Arguments of :func:`ablate`, the flags of ``d3 ablate``.

    Attributes:
        fail_if: exit with status 1 if this condition on ``ablation.json`` holds; may be repeated.
            Written as for ``d3 compare``; without ROW it is of the row ``d3``, for example
            ``d_ausuc_to_cls.high < 0``. In Python a list of all conditions.
    """

    command: ClassVar[str] = "ablate"

    out: str | Path = Path("runs/ablate")
