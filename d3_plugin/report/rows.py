"""The rows of a comparison's table: what each is called, what it needs, how it is scored."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypedDict

from d3_plugin.checks import Measured, NonNegative
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.evaluation.calibration import (
    MakeScores,
    as_scored,
    calibrated_stacking,
    host_classifier,
    logit_adjustment,
    summed_draws,
    tuned_ensemble,
    without_offset,
)
from d3_plugin.evaluation.result import Evaluation

History = list[dict[str, Measured]]
"""Dicts of ``step`` and mean values since the entry before."""


class Projection(TypedDict):
    """Real and synthetic rows of some classes in two dimensions.

    For each of the ``classes`` pairs of coordinates of its rows.
    """

    classes: list[int]
    real: list[list[list[Measured]]]
    synthetic: list[list[list[Measured]]]


@dataclass(frozen=True, eq=False)
class Record:
    """What a run leaves beside its scores.

    Attributes:
        data_name: name of the GZSL problem.
        class_names: C names, or empty.
        history: the trainer's: dicts of ``step`` and the mean losses since the entry before.
        d3_history: dicts of ``step`` and the mean :attr:`d3_plugin.D3.values` since the entry
            before; empty without D³.
        generator_start, generator_mean: mean absolute parameter of the generator before and after
            training: equal for a pair at the start, and with weight 0 at the end.
        projection: of a test run.
        seconds: of the training, which may carry other runs as well, and of scoring all of them,
            since it was last started.
        finished: date and time in UTC, ISO 8601.
    """

    data_name: str
    class_names: list[str]
    history: History
    d3_history: History
    generator_start: Measured
    generator_mean: Measured
    projection: Projection | None
    seconds: NonNegative
    finished: str


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """What a report needs of one training and its scoring.

    Attributes:
        adapter: name of the host family.
        seed: of host, data draw and validation cut; the same for all variants.
        split: ``test`` or ``validation``.
        variant: ``baseline``, ``d3``, or the name of another training.
        evaluation: scores on the rows of the split.
        record: what it leaves beside them.
        d3: settings of D³; None for the host without it.
    """

    adapter: str
    seed: int
    split: str
    variant: str
    evaluation: Evaluation
    record: Record
    d3: D3Settings | None = None


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        key: its name in ``results.json`` and for ``--fail-if``.
        title: its name for readers.
        variant: the training whose test run is scored.
        scores: how they are made, from that run and the validation runs of its variant.
        tuned: something is chosen on these validation runs; the other rows get none.
        possible: whether the settings of D³ and the number of draws allow it.
        color: of its curve; "" for rows without one.
        beside: key of the row of +D³ that it adds something to; "" if it adds nothing.
    """

    key: str
    title: str
    variant: str
    scores: MakeScores = as_scored
    tuned: bool = False
    possible: Callable[[D3Settings, int], bool] = lambda d3, draws: True
    color: str = ""
    beside: str = ""


_HOST_ONLY = Row(
    key="d3_host",
    title="+D³ (host classifier only)",
    variant="d3",
    scores=host_classifier,
    possible=lambda d3, draws: d3.final_classifier != "student",
)
_NO_OFFSET = Row(
    key="d3_plain",
    title="+D³ (no offset)",
    variant="d3",
    scores=without_offset,
    possible=lambda d3, draws: d3.final_classifier != "host" and d3.seen_offset != 0,
)
_RELEASED = Row("released", "+D³ (released formulas)", "released", color="#c06fa0")

COMPARISON = (
    Row("baseline", "baseline", "baseline", color="#808080"),
    Row(
        key="baseline_calibrated",
        title="baseline + calibrated stacking",
        variant="baseline",
        scores=calibrated_stacking,
        tuned=True,
        color="#d98c00",
    ),
    Row(
        key="baseline_adjusted",
        title="baseline + logit adjustment",
        variant="baseline",
        scores=logit_adjustment,
        tuned=True,
        color="#8f6fc4",
    ),
    Row(
        key="baseline_summed",
        title="baseline + classifier ensemble",
        variant="baseline",
        scores=summed_draws,
        possible=lambda d3, draws: draws > 1,
        color="#009e73",
    ),
    Row(
        key="d3_chosen",
        title="+D³ (tuned on validation classes)",
        variant="d3",
        scores=tuned_ensemble,
        tuned=True,
        possible=lambda d3, draws: d3.final_classifier == "both",
    ),
    _HOST_ONLY,
    _NO_OFFSET,
    Row("d3", "+D³ (defaults)", "d3"),
    Row(
        key="d3_calibrated",
        title="+D³ + calibrated stacking",
        variant="d3",
        scores=calibrated_stacking,
        tuned=True,
    ),
    _RELEASED,
)
"""The rows of ``d3 compare``, in the order of the table."""

ABLATION = (
    Row("baseline", "baseline", "baseline"),
    Row("cls", "+ L_cls: a student without distillation", "cls", color="#009e73"),
    Row("cls-kl", "+ L_cls, ID²SD in label space", "cls-kl"),
    Row("cls-be", "+ L_cls, ID²SD in embedding space", "cls-be"),
    Row("cls-id2sd", "+ L_cls, ID²SD in both", "cls-id2sd"),
    Row("cls-od", "+ L_cls, O²DBD", "cls-od"),
    _HOST_ONLY,
    _NO_OFFSET,
    Row("d3", "+D³ (all terms)", "d3"),
    _RELEASED,
)
"""The rows of ``d3 ablate``."""

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

COLORS = {row.key: row.color for row in (*ABLATION, *COMPARISON) if row.color}
HEADLINE_COLOR = "#2b8cc4"


def added(key: str, name: str) -> str:
    """Key of a row, or name of a variant, with a plugin beside +D³."""
    return f"{key}-{name}"


def with_additions(rows: Iterable[Row], names: Collection[str]) -> list[Row]:
    """The rows, and after each that is all of +D³ one for every plugin that is added to it."""
    found = []
    for row in rows:
        found.append(row)
        for name in names if row.key in ("d3_chosen", "d3") else ():
            found.append(
                replace(
                    row,
                    key=added(row.key, name),
                    title=row.title.replace("+D³", f"+D³ + {name}"),
                    variant=added(row.variant, name),
                    beside=row.key,
                )
            )
    return found


def headline(keys: Collection[str]) -> str:
    """The row that a table is judged by: +D³, tuned as the rivals are if the table has that."""
    return "d3_chosen" if "d3_chosen" in keys else "d3"


def drawn(keys: Iterable[str]) -> list[str]:
    """Keys of the rows whose curves are shown."""
    keys = list(keys)
    judged = headline(keys)
    return [k for k in keys if k == judged or k.startswith(added(judged, "")) or k in COLORS]


def rows_of(
    rows: Iterable[Row], variants: Mapping[str, D3Settings | None], draws: int
) -> tuple[Row, ...]:
    """The rows that a table of these variants and this number of draws has."""
    d3 = variants["d3"] or D3Settings()
    return tuple(row for row in rows if row.variant in variants and row.possible(d3, draws))
