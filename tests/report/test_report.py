"""The page, its tables and pictures: made from results.json alone, and true to it."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sys
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from d3_plugin.__main__ import main
from d3_plugin.experiments import ablate, compare
from d3_plugin.report import page as report
from d3_plugin.report.details import details
from d3_plugin.report.results import command, results
from d3_plugin.report.statistics import ROWS, rows_of, summarize
from d3_plugin.report.tables import COLUMNS, cell, csv_table, tex, tex_table
from tests.experiments.tiny import SMALL, VARIANTS, outcome

SCHEMA = json.loads(Path(report.__file__).with_name("results.schema.json").read_text())
PICTURES = ("curves", "teacher", "losses", "terms", "classes", "projection")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison and an ablation in one folder."""
    out = tmp_path_factory.mktemp("finished")
    compare("fclswgan", "digits", out, seeds=2, **SMALL)
    ablate("fclswgan", "digits", out, seeds=2, **SMALL)
    return out


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


@pytest.mark.parametrize("file", ["results.json", "ablation.json"])
def test_results_follow_the_schema(finished: Path, file: str) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    content = read(finished / file)
    validator = Draft202012Validator(SCHEMA)
    assert [error.message for error in validator.iter_errors(content)] == []
    for change in ({"version": 2}, {"summary": {"a": {}}}, {"undocumented": 1}):
        assert not validator.is_valid({**content, **change})
    content["runs"][0]["d3_history"] = [{"cls": 1.0}]
    assert not validator.is_valid(content), "an entry without its step"


def test_what_a_run_records_is_in_the_results(finished: Path) -> None:
    for run in read(finished / "results.json")["runs"]:
        steps = [entry["step"] for entry in run["d3_history"]]
        assert steps == ([] if run["variant"] == "baseline" else [1, 2, 3])
        for entry in run["d3_history"]:
            assert entry.keys() >= {"cls", "kl", "be", "od", "total", "teacher_real"}


def test_the_page_needs_nothing_else(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert page.count("<svg ") == len(PICTURES)
    assert re.findall(r'(?:src|href|action)="(?!#)', page) == []
    assert re.findall(r"@import|url\((?!#)|<script|<link|<iframe|<object", page) == []
    assert re.findall(r'id="(figure|axes)_1"', page) == [], "the same id in every picture"
    for text in ("+D³", "calibrated stacking", "AUSUC", "ΔAUSUC", "prefers-color-scheme: dark"):
        assert text in page
    content = read(finished / "results.json")
    assert f"<pre>{content['command']}</pre>" in unescape(page)
    assert content["versions"]["torch"] in page
    assert content["finished"][:10] in page
    assert page.index('class="verdict"') < page.index("<table>"), "the verdict comes first"


def test_pictures_lie_beside_the_page(finished: Path) -> None:
    for first in ("", "ablation-"):
        for name in PICTURES:
            path = finished / "figures" / f"{first}fclswgan-{name}"
            assert path.with_suffix(".svg").read_text().startswith("<?xml")
            assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_rendered_again_without_training(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the two JSON files alone, to the byte."""
    for file in report.OUTPUTS:
        shutil.copy(finished / file, tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    printed = capsys.readouterr().out.split()
    assert printed == [str(tmp_path / "report.html"), str(tmp_path / "ablation.html")]
    made = {p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()}
    assert len(made) == 2 + 2 * 3 + 4 * len(PICTURES)
    for path in made:
        assert (tmp_path / path).read_bytes() == (finished / path).read_bytes(), path


def test_results_of_earlier_versions_are_rendered(finished: Path, tmp_path: Path) -> None:
    content = read(finished / "results.json")
    for name in ("version", "command", "finished", "notes", "details"):
        del content[name]
    for run in content["runs"]:
        del run["d3_history"], run["finished"]
    (tmp_path / "results.json").write_text(json.dumps(content))
    assert main(["report", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg ") == 2, "curves and the host's losses"
    assert "d3 compare --adapter fclswgan --data digits" in page


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "holds no results.json or ablation.json"),
        ("[1]", "is not of a finished comparison"),
        ("{", "is not of a finished comparison"),
        ('{"version": 99}', "has version 99, this d3_plugin knows 1"),
    ],
)
def test_folders_without_usable_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    assert main(["report", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "d3_plugin.report.page")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert main(["report", str(tmp_path)]) == 2
    assert "this needs jinja2: pip install 'd3-plugin[compare]'" in capsys.readouterr().err


def test_csv_has_the_numbers_of_the_summary(finished: Path) -> None:
    summary = read(finished / "results.json")["summary"]
    with (finished / "table.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == list(summary["fclswgan"])
    for row in rows:
        of_row = summary[row["adapter"]][row["row"]]
        assert row["title"] == of_row["title"]
        for metric in COLUMNS:
            statistic = of_row["metrics"][metric]
            for name, each in ((metric, statistic), (f"d_{metric}", statistic["difference"])):
                assert float(row[name]) == each["mean"]
                assert float(row[f"{name}_half_width"]) == each["half_width"]


def test_tex_has_the_cells_of_the_table(finished: Path) -> None:
    summary = read(finished / "results.json")["summary"]["fclswgan"]
    text = (finished / "table.tex").read_text()
    lines = [line for line in text.splitlines() if line.endswith(r" \\")][2:]
    assert len(lines) == len(summary)
    for line, row in zip(lines, summary.values(), strict=True):
        cells = [each.strip() for each in line.removesuffix(r"\\").split(" & ")]
        assert len(cells) == len(COLUMNS) + 3
        shown = [cell(row["metrics"][metric]) for metric in COLUMNS]
        assert [each.replace("$\\pm$", "±") for each in cells[1:7]] == shown
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lrrrrrrrr}"):
        assert text.count(rule) == 1


def test_special_characters_in_tex() -> None:
    assert tex("50% & a_b #1 {x} $y ~ ^ \\") == (
        r"50\% \& a\_b \#1 \{x\} \$y \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )
    assert tex("+D³, ID²SD, Ätna, ΔH <-2.0 ± 1.0>") == (
        r"+D$^3$, ID$^2$SD, Ätna, $\Delta$H $<$-2.0 $\pm$ 1.0$>$"
    )
    assert tex("-2.0 ± 1.0") == r"$-$2.0 $\pm$ 1.0"
    assert tex_table({}, "a\n% b").splitlines()[0] == "% a % b", "stays a comment"


def made_up(seeds: int = 2) -> dict[str, Any]:
    """Results in which +D³ has less bias, with difficult class names."""
    outcomes = {}
    for seed in range(seeds):
        for split in ("validation", "test"):
            for variant, bias in (("baseline", 2.0), ("d3", 1.0)):
                made = outcome(10 * seed + (split == "test"), bias=bias)
                score = np.linspace(0, 1, len(made.evaluation.labels))
                with_teacher = replace(made.evaluation, teacher_score=score, teacher_auroc=0.7)
                real, synthetic = [[[0.0, 1.0]]] * 5, [[[0.0, 1.0], [float("nan"), 2.0]]] * 5
                projection = {"classes": [1, 4, 0, 2, 3], "real": real, "synthetic": synthetic}
                entry = {"step": 1, "cls": float("nan"), "total": 2.0}
                outcomes["a", seed, split, variant] = replace(
                    made,
                    evaluation=with_teacher,
                    projection=projection,
                    d3_history=[entry],
                    history=[{"step": 1, "critic": float("inf")}],
                )
    chosen_on = {seed: [seed] for seed in range(seeds)}
    summary = summarize(outcomes, "a", chosen_on, rows_of(ROWS, VARIANTS, draws=2))
    settings = {
        **{"adapters": ["fclswgan"], "data": "50%_of & <b>birds</b>", "seeds": seeds, "cuts": 1},
        **{"draws": 2, "device": "cpu", "hosts": {}, "d3": {"weight": 0.5}},
    }
    return results(settings, outcomes, {"a": summary})


def test_the_command_of_code_that_is_not_installed() -> None:
    """With all its settings: which are defaults is not known."""
    settings = made_up()["settings"]
    settings |= {"adapters": ["mine"], "hosts": {"mine": {"steps": 7, "lr": 0.1}}}
    assert " --host steps=7 --host lr=0.1 --set weight=0.5" in command(settings)


def test_class_names_are_shown_as_they_are(tmp_path: Path) -> None:
    report.write_report(tmp_path, made_up())
    page = (tmp_path / "report.html").read_text()
    assert "&lt;dog&gt; &amp; co" in page
    assert "<dog>" not in page
    assert "<b>birds" not in page
    for name in ("classes", "projection"):
        picture = (tmp_path / "figures" / f"a-{name}.svg").read_text()
        for shown in ("50% $off_", "Ätna", "&lt;dog&gt; &amp; co"):
            assert shown in picture
    assert (tmp_path / "table.tex").read_text().startswith("% 50%_of & <b>birds</b>, 2 seeds\n")


def test_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    content = made_up()
    run = content["runs"][0]
    assert run["d3_history"] == [{"step": 1, "cls": None, "total": 2.0}]
    assert run["history"] == [{"step": 1, "critic": None}]
    assert content["details"]["a"]["projection"]["d3"][0] == [[0.0, 1.0]]
    json.dumps(content, allow_nan=False)


def test_details_by_hand() -> None:
    """Two draws of six rows: class 0 is seen; 1 and 4 are unseen."""
    labels = np.array([0, 0, 1, 1, 4, 4])
    predicted = {"baseline": [[0, 1, 0, 1, 0, 0], [0, 0, 0, 1, 0, 4]], "d3": [labels, labels]}
    tests = {}
    for variant, each in predicted.items():
        scores = np.eye(5, dtype=np.float32)[np.array(each)]
        evaluation = replace(outcome(0).evaluation, labels=labels, scores=scores)
        made = replace(outcome(0), evaluation=evaluation)
        tests[variant] = [made]
    made_details = details(tests)
    assert [(c["class"], c["unseen"], c["baseline"], c["d3"]) for c in made_details["classes"]] == [
        (0, False, 0.75, 1.0),
        (1, True, 0.5, 1.0),
        (4, True, 0.25, 1.0),
    ]
    assert made_details["confusion"] == {
        "baseline": {"seen_as_seen": 0.75, "unseen_as_seen": 0.625},
        "d3": {"seen_as_seen": 1.0, "unseen_as_seen": 0.0},
    }
    assert made_details["mistakes"] == [
        {"class": "fox", "taken_for": "cat", "unseen": False, "baseline": 0.75, "d3": 0.0},
        {"class": "<dog> & co", "taken_for": "cat", "unseen": False, "baseline": 0.5, "d3": 0.0},
    ]


def test_one_seed_has_no_interval_in_csv() -> None:
    text = csv_table({"a": made_up(seeds=1)["summary"]["a"]})
    row = next(csv.DictReader(io.StringIO(text)))
    assert row["ausuc_half_width"] == row["d_ausuc_half_width"] == ""
