"""The verdict in a sentence, and ``--fail-if`` through the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from d3_plugin.__main__ import main
from d3_plugin.errors import FailedConditionError, InputError
from d3_plugin.experiments import ablate, compare, parallel
from d3_plugin.report import page
from d3_plugin.report.statistics import interval
from d3_plugin.report.verdict import failures, read_conditions, verdict
from tests.experiments.tiny import FLAGS, SMALL

ARGUMENTS = ["compare", "--data", "digits-2", "--seeds", "2", "--cuts", "1", *FLAGS]


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_pictures", lambda *_: ())


def summary(**gains: Sequence[float]) -> dict[str, Any]:
    """A table with these gains of AUSUC and H for each row and seed, in percent."""
    rows: dict[str, Any] = {}
    zero = [0.0] * len(gains["d3_a"])
    for name, values in {"baseline_h": zero, "baseline_a": zero, **gains}.items():
        row, _, metric = name.rpartition("_")
        metric = {"h": "harmonic", "a": "ausuc"}[metric]
        numbers = [0.5 + each / 100 for each in values]
        difference = interval(each / 100 for each in values)
        of_metric = {**interval(numbers), "difference": difference, "per_seed": numbers}
        rows.setdefault(row, {"title": row, "metrics": {}})["metrics"][metric] = of_metric
    return rows


GAIN, NOISE, LOSS = [1.5, 1.9, 1.7, 1.2, 2.1], [1, -1, 2, -2, 0.5], [-1.5, -1.9, -1.7, -1.2, -2.1]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            summary(d3_a=GAIN, d3_h=[10, 9, 11, 10, 9], baseline_calibrated_h=[6, 7, 6, 6, 6]),
            "a: d3 gains AUSUC +1.7 ± 0.4 over 5 seeds; H +9.8 ± 1.0; calibrated "
            "stacking alone gives H +6.2",
        ),
        (
            summary(d3_a=NOISE, d3_h=GAIN, baseline_calibrated_h=[3.0] * 5),
            "a: d3: no significant gain in AUSUC, +0.1 ± 2.0 over 5 seeds; H +1.7 ± 0.4; "
            "calibrated stacking alone gives H +3.0",
        ),
        (
            summary(d3_a=LOSS, d3_h=NOISE, baseline_calibrated_h=LOSS),
            "a: d3 loses AUSUC -1.7 ± 0.4 over 5 seeds; H +0.1 ± 2.0, not significant; calibrated "
            "stacking alone gives H -1.7",
        ),
        (
            summary(d3_a=[4.0], d3_h=[-3.0], baseline_calibrated_h=[1.0]),
            "a: d3: AUSUC +4.0, H -3.0, no verdict from a single seed; calibrated stacking alone "
            "gives H +1.0",
        ),
        (
            summary(d3_a=GAIN, d3_h=GAIN, cls_a=[1.8] * 5),
            "a: d3 gains AUSUC +1.7 ± 0.4 over 5 seeds; H +1.7 ± 0.4; L_cls alone gives AUSUC +1.8",
        ),
        (
            summary(d3_a=LOSS, d3_h=LOSS, d3_chosen_a=GAIN, d3_chosen_h=GAIN),
            "a: d3_chosen gains AUSUC +1.7 ± 0.4 over 5 seeds; H +1.7 ± 0.4",
        ),
    ],
    ids=["gain", "no gain", "loss", "one seed", "ablation", "chosen like the rivals"],
)
def test_verdict(table: dict[str, Any], said: str) -> None:
    assert verdict("a", table) == said


TABLE = {"a": summary(d3_a=GAIN, d3_h=LOSS, d3_host_a=NOISE, baseline_calibrated_h=[1.0] * 5)}


@pytest.mark.parametrize(
    ("condition", "fails"),
    [
        ("d_ausuc < 0", False),
        ("d_ausuc > 0.0167", True),
        ("d_ausuc.low <= 0", False),
        ("d_ausuc.low > 0.012", True),
        ("d_ausuc.high>=0.03", False),
        ("ausuc >= 0.5168", True),
        ("a:d3.d_harmonic < 0", True),
        ("d3_host.d_ausuc.high<0", False),
        ("d_harmonic_to_baseline_calibrated < -0.0267", True),
        ("d_harmonic_to_baseline_calibrated < -0.027", False),
        (" d3.d_harmonic_to_baseline.high  <  -1e-3 ", True),
        ("ausuc < 5.", True),
        ("ausuc>.5", True),
        ("ausuc > 5e-1", True),
        ("ausuc > +.6E0", False),
    ],
)
def test_conditions(condition: str, fails: bool) -> None:
    read = read_conditions([condition], ["a"], list(TABLE["a"]), 5)
    assert bool(failures(read, TABLE)) == fails


def test_verdict_and_gate_are_of_one_row() -> None:
    """The tuned row gains where the defaults lose: without a row, the gate judges it too."""
    tables = {"a": summary(d3_a=LOSS, d3_h=LOSS, d3_chosen_a=GAIN, d3_chosen_h=GAIN)}
    assert "d3_chosen gains" in verdict("a", tables["a"])
    gate = read_conditions(["d_ausuc.high < 0", "d3.d_ausuc.high < 0"], tables, tables["a"], 5)
    assert [line.partition(" (")[0] for line in failures(gate, tables)] == [
        "a d3.d_ausuc.high < 0: of d3 it is -0.01246"
    ]


def test_one_condition_in_python_needs_no_list() -> None:
    (read,) = read_conditions("ausuc < 0", ["a"], ["d3"], 5)
    assert (read.row, read.metric, read.number) == ("d3", "ausuc", 0.0)


def test_a_failure_names_condition_and_figure() -> None:
    tables = {"a": TABLE["a"], "b": summary(d3_a=LOSS, d3_h=GAIN), "c": summary(d3_a=GAIN)}
    read = read_conditions(["d_ausuc < 0", "a:d_ausuc.low < 0.02"], tables, ["d3"], 5)
    assert failures(read, tables) == [
        "b d_ausuc < 0: of d3 it is -0.0168 (95 % interval -0.02114 to -0.01246)",
        "a d_ausuc.low < 0.02: of d3 it is 0.01246 (mean 0.0168, 95 % interval 0.01246 to 0.02114)",
    ]
    one = {"a": summary(d3_a=[-3.0])}
    assert failures(read[:1], {**one, "b": one["a"], "c": one["a"]})[0] == (
        "a d_ausuc < 0: of d3 it is -0.03"
    )


def test_what_is_added_to_the_headline_is_compared_with_it() -> None:
    table = summary(d3_a=GAIN, d3_h=GAIN, more_a=[1.0 + x for x in GAIN], more_h=NOISE)
    table["more"]["beside"] = "d3"
    said = verdict("x", table)
    assert said.startswith("x: d3 gains AUSUC +1.7 ± ")
    assert ". Beside it more gains AUSUC +1.0 ± 0.0 over 5 seeds; H -1.6 ± " in said
    gate = read_conditions(["more.d_ausuc_to_d3 > 0.009"], ["x"], table, 5)
    assert failures(gate, {"x": table})[0].startswith("x more.d_ausuc_to_d3 > 0.009: of more it is")


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("d_ausuc", "'d_ausuc' is not a condition"),
        ("d_ausuc < many", "'many' is not a number"),
        ("d_ausuc < nan", "'nan' is not a number"),
        ("d_ausuc < 1e999", "'1e999' is not a number"),
        ("d_ausuc == 0", "no operator '==' here; there are <, <=, >, >="),
        ("ausuc<<1", "no operator '<<' here"),
        ("ausuc < 1 < 2", "is not a condition"),
        ("low < 0", "no metric 'low' here; there are unseen, seen"),
        ("high > 0", "no metric 'high' here"),
        ("d3.low < 0", "no metric 'd3' here"),
        (".ausuc < 0", "no row '' here"),
        (":ausuc < 0", "no adapter '' here"),
        ("d_ausuc_to_ < 0", "no row '' here"),
        ("fclswgn:ausuc < 0", "no adapter 'fclswgn' here; did you mean 'fclswgan'"),
        ("", "is not a condition"),
        ("d_ausc < 0", "no metric 'ausc' here; did you mean 'ausuc'"),
        ("d4.ausuc < 0", "no row 'd4' here"),
        ("released.ausuc < 0", "no row 'released' here"),
        ("d_ausuc_to_baselin < 0", "no row 'baselin' here; did you mean 'baseline'"),
        ("ausuc_to_baseline < 0", "a difference is written d_ausuc_to_baseline"),
        ("diffusion:ausuc < 0", "no adapter 'diffusion' here"),
    ],
)
def test_bad_conditions_fail_before_any_training(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    condition: str,
    why: str,
) -> None:
    monkeypatch.setattr(parallel, "execute", lambda runs, *rest: pytest.fail("training started"))
    assert main([*ARGUMENTS, "--out", str(tmp_path), "--fail-if", condition]) == 2
    assert why in capsys.readouterr().err


def test_all_bad_conditions_are_listed(tmp_path: Path) -> None:
    conditions = ["d_ausuc.low < 0", "x:d4.foo < 0", "?"]
    with pytest.raises(InputError, match=r"(?s)5 problems.*one seed has no interval.*'\?' is not"):
        compare("fclswgan", "digits", tmp_path, seeds=1, fail_if=conditions, **SMALL)


@pytest.mark.usefixtures("no_pictures")
def test_exit_status_of_conditions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    passing = ["--fail-if", "ausuc < 0", "--fail-if", "fclswgan:baseline.ausuc > 1"]
    assert main([*ARGUMENTS, "--out", str(tmp_path), *passing]) == 0
    printed = capsys.readouterr()
    assert "failed" not in printed.err
    assert "passed: none of --fail-if ausuc < 0; fclswgan:baseline.ausuc > 1" in printed.out
    for file in ("results.json", "report.html"):
        (tmp_path / file).unlink()
    failing = ["--fail-if", "ausuc < 0", "--fail-if", "ausuc <= 1", "--fail-if", "d_zsl.low < 9"]
    assert main([*ARGUMENTS, "--out", str(tmp_path), *failing]) == 1
    lines = capsys.readouterr().err.splitlines()
    lines = [line for line in lines if line.startswith("d3:")]
    mean = json.loads((tmp_path / "results.json").read_text())["summary"]["fclswgan"]
    mean = mean["d3_chosen"]["metrics"]["ausuc"]["mean"]
    assert len(lines) == 2
    title = "of +D³ (tuned on validation classes) it is"
    assert lines[0].startswith(f"d3: failed: fclswgan ausuc <= 1: {title} {mean:.4g} (95 % ")
    assert lines[1].startswith(f"d3: failed: fclswgan d_zsl.low < 9: {title} ")
    assert (tmp_path / "report.html").exists(), "results first"


@pytest.mark.usefixtures("no_pictures")
def test_python_gets_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        FailedConditionError, match=r"^failed: fclswgan cls-kl\.d_ausuc_to_cls > -2"
    ):
        ablate(
            "fclswgan",
            "digits",
            tmp_path,
            seeds=1,
            fail_if=["cls-kl.d_ausuc_to_cls > -2"],
            **SMALL,
        )
    assert (tmp_path / "ablation.json").exists()
