"""Means, intervals and paired differences."""

from __future__ import annotations

from dataclasses import replace

import pytest

from d3_plugin import D3Settings
from d3_plugin.evaluation.calibration import rescored
from d3_plugin.report.statistics import (
    ROWS,
    interval,
    rows_of,
    seed_rows,
    summarize,
)
from d3_plugin.report.tables import aligned, cell, table_rows
from tests.experiments.tiny import VARIANTS, outcome


def test_interval_by_hand() -> None:
    """t(0.975, 2 degrees of freedom) = 4.3027; the deviation of 1, 2, 4 is 1.5275."""
    made = interval([1.0, 2.0, 4.0])
    assert made["mean"] == pytest.approx(7 / 3)
    assert made["half_width"] == pytest.approx(4.3027 * 1.5275 / 3**0.5, rel=1e-4)


def test_one_seed_has_no_interval() -> None:
    assert interval([0.5]) == {"mean": 0.5, "half_width": None}
    assert cell(interval([0.5])) == "50.0"


def test_cells() -> None:
    assert cell({"mean": 0.1234, "half_width": 0.01}) == "12.3 ± 1.0"
    assert cell({"mean": 0.1234, "half_width": 0.01}, signed=True) == "+12.3 ± 1.0"
    assert cell({"mean": -0.02, "half_width": None}, signed=True) == "-2.0"
    assert cell({"mean": -1e-6, "half_width": None}, signed=True) == "+0.0"


def test_differences_are_paired() -> None:
    """+D³ is the baseline of the same seed with less bias; seeds differ far more than the gain."""
    outcomes = {}
    for seed in (0, 1, 2):
        for split in ("validation", "test"):
            number = 10 * seed + (split == "test")
            outcomes["a", seed, split, "baseline"] = outcome(number, bias=2.0)
            outcomes["a", seed, split, "d3"] = outcome(number, bias=1.0)
    rows = rows_of(ROWS, VARIANTS, draws=2)
    table = summarize(outcomes, "a", {0: [0, 1], 1: [0, 1], 2: [0, 1]}, rows)
    assert {key: row["title"] for key, row in table.items()} == rows
    for metric in ("harmonic", "ausuc"):
        base, d3 = (table[row]["metrics"][metric] for row in ("baseline", "d3"))
        per_seed = [b - a for a, b in zip(base["per_seed"], d3["per_seed"], strict=True)]
        assert d3["difference"] == interval(per_seed)
    assert table["baseline"]["metrics"]["ausuc"]["difference"]["mean"] == 0
    # The same scores but for a constant: AUSUC must not see it, H must.
    assert table["d3"]["metrics"]["ausuc"]["difference"]["mean"] == pytest.approx(0, abs=1e-6)
    assert table["d3"]["metrics"]["harmonic"]["difference"]["mean"] > 0.05
    lines = aligned(table_rows(table)).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split("|")[2].strip() == "U"


def test_the_row_without_offset_takes_it_back() -> None:
    made = outcome(0)
    student = replace(made.evaluation, student_scores=made.evaluation.scores[0], host_scores=None)
    lowered = rescored(student, ensemble_weight=1.0, seen_offset=1.5)
    run = replace(made.run, d3=D3Settings(seen_offset=1.5))
    d3 = replace(made, evaluation=lowered, run=run)
    outcomes = {("a", 0, "test", "baseline"): made, ("a", 0, "test", "d3"): d3}
    rows = seed_rows(outcomes, "a", 0, [], ["d3_plain", "d3"])
    assert rows["d3_plain"] == student.metrics_of(made.evaluation.scores[:1]) != rows["d3"]


@pytest.mark.parametrize(
    ("settings", "draws", "missing"),
    [
        (D3Settings(), 3, set()),
        (D3Settings(), 1, {"baseline_summed"}),
        (D3Settings(seen_offset=0.0), 3, {"d3_plain"}),
        (D3Settings(final_classifier="host"), 3, {"d3_chosen", "d3_plain"}),
        (D3Settings(final_classifier="student"), 3, {"d3_chosen", "d3_host"}),
    ],
)
def test_rows_that_the_settings_rule_out(
    settings: D3Settings, draws: int, missing: set[str]
) -> None:
    assert ROWS.keys() - rows_of(ROWS, {"d3": settings}, draws) == missing | {"released"}
    variants = {"d3": settings, "released": D3Settings.released()}
    assert ROWS.keys() - rows_of(ROWS, variants, draws) == missing
