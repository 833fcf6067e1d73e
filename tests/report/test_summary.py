"""Rows, means, intervals and paired differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from d3_plugin import D3Settings
from d3_plugin.evaluation.calibration import choose_ensemble, rescored
from d3_plugin.report.rows import ABLATION, COMPARISON, Row, drawn, headline, rows_of
from d3_plugin.report.statistics import interval, score, summarize
from d3_plugin.report.tables import aligned, cell, rows_by_seed, table_rows
from tests.report.made_up import D3, LABELS, SEEN, UNSEEN, VARIANTS, finished, runs

ROWS = {row.key: row for row in COMPARISON}


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
    made = [
        finished(seed, variant, split=split, bias=bias)
        for seed in range(3)
        for split in ("validation", "test")
        for variant, bias in (("baseline", 2.0), ("d3", 1.0))
    ]
    rows = rows_of(COMPARISON, {"baseline": None, "d3": D3Settings(final_classifier="host")}, 2)
    scored = {row.key: [score(made, row, seed, [0, 1]) for seed in range(3)] for row in rows}
    table = summarize(scored, rows)
    assert [(key, row["title"]) for key, row in table.items()] == [(r.key, r.title) for r in rows]
    for metric in ("harmonic", "ausuc"):
        base, d3 = (table[row]["metrics"][metric] for row in ("baseline", "d3"))
        per_seed = [b - a for a, b in zip(base["per_seed"], d3["per_seed"], strict=True)]
        assert d3["difference"] == interval(per_seed)
        assert np.mean(d3["per_draw"], axis=1) == pytest.approx(d3["per_seed"])
    assert table["baseline"]["metrics"]["ausuc"]["difference"]["mean"] == 0
    # The same scores but for a constant: AUSUC must not see it, H must.
    assert table["d3"]["metrics"]["ausuc"]["difference"]["mean"] == pytest.approx(0, abs=1e-6)
    assert table["d3"]["metrics"]["harmonic"]["difference"]["mean"] > 0.05
    lines = aligned(table_rows(table)).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split("|")[2].strip() == "U"
    shown = rows_by_seed(table, "ausuc")
    assert shown[0] == ["", "seed 0", "seed 1", "seed 2"]
    first, of_draws = shown[1][1].split(" ", 1)
    assert float(first) == pytest.approx(100 * base["per_seed"][0], abs=0.051)
    assert len(of_draws.split(", ")) == 2


def test_the_tuned_row_is_that_of_the_chosen_constants() -> None:
    """Chosen on the validation runs of the cuts, and on nothing else."""
    made = runs(2)
    d3 = {(run.split, run.seed): run.evaluation for run in made if run.variant == "d3"}
    for cuts in ([0], [0, 1]):
        row = score(made, ROWS["d3_chosen"], 1, cuts)
        chosen = choose_ensemble([d3["validation", cut] for cut in cuts])
        expected = rescored(d3["test", 1], **chosen)
        assert np.array_equal(row.predicted, expected.scores.argmax(axis=2))
        assert np.mean([m["ausuc"] for m in row.metrics]) == pytest.approx(expected.metrics.ausuc)


def test_rows_of_one_run() -> None:
    """Each is the scores it says, of the same run."""
    run = finished(1, "d3", student_bias=0.0)
    test = run.evaluation
    made = {key: score([run], ROWS[key], 1, []).predicted for key in ("d3", "d3_host", "d3_plain")}
    host, student = np.asarray(test.host_scores), np.asarray(test.student_scores)
    plain = host.astype(np.float64) + D3.ensemble_weight * student
    assert np.array_equal(made["d3_host"], host.argmax(axis=2))
    assert np.array_equal(made["d3_plain"], plain.argmax(axis=2))
    plain[:, :, SEEN] -= D3.seen_offset * np.log(len(SEEN))
    assert np.array_equal(made["d3"], plain.argmax(axis=2))
    base = finished(1)
    summed = score([base], ROWS["baseline_summed"], 1, [])
    assert np.array_equal(summed.predicted[0], base.evaluation.scores.sum(axis=0).argmax(axis=1))


def test_the_curve_is_that_of_the_row() -> None:
    """At S = 0 every row is classified as unseen: U is the accuracy among unseen classes."""
    made = score([finished(3)], ROWS["baseline"], 3, [])
    scores = finished(3).evaluation.scores[:, ~np.isin(LABELS, SEEN)][:, :, UNSEEN]
    right = UNSEEN[scores.argmax(axis=2)] == LABELS[~np.isin(LABELS, SEEN)]
    of_class = [right[:, LABELS[~np.isin(LABELS, SEEN)] == each].mean() for each in UNSEEN]
    assert made.curve[0] == pytest.approx(np.mean(of_class))
    assert made.curve[-1] < 0.5


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
    variants = {"baseline": None, "d3": settings}

    def absent(**more: D3Settings) -> set[str]:
        return ROWS.keys() - {row.key for row in rows_of(COMPARISON, variants | more, draws)}

    assert absent() == missing | {"released"}
    assert absent(released=D3Settings.released()) == missing
    keys = [row.key for row in rows_of(COMPARISON, variants, draws)]
    assert headline(keys) == ("d3" if "d3_chosen" in missing else "d3_chosen")
    assert {"baseline", headline(keys)} <= set(drawn(keys))


def test_titles_and_keys_are_unique() -> None:
    for rows in (COMPARISON, ABLATION):
        assert len({row.key for row in rows}) == len({row.title for row in rows}) == len(rows)
    assert {row.key for row in COMPARISON if row.tuned} == {
        "baseline_calibrated", "baseline_adjusted", "d3_chosen", "d3_calibrated"
    }  # fmt: skip


def test_a_further_row_needs_nothing_else() -> None:
    """A training of another name, as a row of its own."""
    more = replace(finished(0, "d3", student_bias=0.0), variant="d3+idea")
    row = Row("idea", "+D³ + idea", "d3+idea")
    variants = {**VARIANTS, "d3+idea": D3}
    assert row in rows_of((*COMPARISON, row), variants, 2)
    assert row not in rows_of((*COMPARISON, row), VARIANTS, 2)
    made = [*runs(1), more]
    rows = (ROWS["baseline"], ROWS["d3"], row)
    table = summarize({r.key: [score(made, r, 0, [])] for r in rows}, rows)
    assert (
        table["idea"]["metrics"]["ausuc"]["per_seed"] == table["d3"]["metrics"]["ausuc"]["per_seed"]
    )
    assert "idea" not in drawn(table)
