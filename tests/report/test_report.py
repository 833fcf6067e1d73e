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
from matplotlib.figure import Figure

from d3_plugin.__main__ import main
from d3_plugin.experiments import ablate, compare
from d3_plugin.report import page as report
from d3_plugin.report.details import details
from d3_plugin.report.results import write_results
from d3_plugin.report.statistics import Scored
from d3_plugin.report.tables import COLUMNS, METRICS, csv_table, table_rows, tex, tex_table
from tests.experiments.tiny import SMALL
from tests.report.made_up import content as made_up
from tests.report.made_up import finished as finished_run
from tests.report.made_up import runs as made_up_runs

SCHEMA = json.loads(Path(report.__file__).with_name("results.schema.json").read_text())
SVG = {"svg": report.KINDS["svg"]}
PICTURES = ("curves", "classes", "teacher", "losses", "terms", "projection")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison and an ablation in one folder."""
    out = tmp_path_factory.mktemp("finished")
    compare("fclswgan", "digits", out, seeds=2, **SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "KINDS", SVG)
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
    for change in ({"version": 3}, {"summary": {"a": {}}}, {"undocumented": 1}):
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
    assert f'<pre class="command">{content["command"]}</pre>' in unescape(page)
    assert content["versions"]["torch"] in page
    assert content["finished"][:10] in page
    assert page.index('class="verdict"') < page.index("<table>"), "the verdict comes first"


def test_pictures_lie_beside_the_page(finished: Path) -> None:
    for first in ("", "ablation-"):
        for name in PICTURES:
            path = finished / "figures" / f"{first}fclswgan-{name}"
            assert path.with_suffix(".svg").read_text().startswith("<?xml")
            if not first:  # the ablation is drawn as SVG alone: PDFs take long
                assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_rendered_again_without_training(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From the two JSON files alone, to the byte; the first picture as PDF too: it takes long."""
    kinds, save = iter([report.KINDS]), report._saved

    def saved(figure: Figure) -> dict[str, bytes]:
        monkeypatch.setattr(report, "KINDS", next(kinds, SVG))
        return save(figure)

    monkeypatch.setattr(report, "_saved", saved)
    for file in report.OUTPUTS:
        shutil.copy(finished / file, tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    printed = capsys.readouterr().out.split()
    assert printed == [str(tmp_path / "report.html"), str(tmp_path / "ablation.html")]
    made = {p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()}
    assert len(made) == 2 + 2 * 3 + 2 * len(PICTURES) + 1
    for path in made:
        assert (tmp_path / path).read_bytes() == (finished / path).read_bytes(), path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "holds no results.json or ablation.json"),
        ("[1]", "is not of a finished comparison"),
        ("{", "is not of a finished comparison"),
        ("NaN", "NaN is no number in JSON"),
        ("[" * 100_000, "is not of a finished comparison"),
        ('{"version": 2}', "'command' is a required property"),
        ('{"version": 99}', "has version 99, this d3_plugin knows 2"),
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


def test_csv_has_every_number(finished: Path) -> None:
    """Of all seeds together, of each, and of each draw."""
    summary = read(finished / "results.json")["summary"]["fclswgan"]
    with (finished / "table.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert list(dict.fromkeys(line["row"] for line in lines)) == list(summary)
    baseline = summary["baseline"]["metrics"]
    for line in lines:
        of_row, seed, draw = summary[line["row"]], line["seed"], line["draw"]
        assert line["title"] == of_row["title"]
        assert line["headline"] == ("yes" if line["row"] == "d3_chosen" else "")
        for metric in METRICS:
            statistic, shown = of_row["metrics"][metric], (line[metric], line[f"d_{metric}"])
            if not seed:
                assert shown == (str(statistic["mean"]), str(statistic["difference"]["mean"]))
                assert float(line[f"{metric}_half_width"]) == statistic["half_width"]
            elif not draw:
                value, other = (m["per_seed"][int(seed)] for m in (statistic, baseline[metric]))
                assert shown == (str(value), str(value - other))
            else:
                assert shown == (str(statistic["per_draw"][int(seed)][int(draw)]), "")
    counted = [(line["seed"], line["draw"]) for line in lines if line["row"] == "d3"]
    assert counted == [("", ""), ("0", ""), ("0", "0"), ("1", ""), ("1", "0")]


def test_tex_has_the_cells_of_the_table(finished: Path) -> None:
    summary = read(finished / "results.json")["summary"]["fclswgan"]
    text = (finished / "table.tex").read_text()
    lines = [line for line in text.splitlines() if line.endswith(r" \\")]
    lines = [line for line in lines if not line.startswith(r"\multicolumn")][1:]
    assert len(lines) == len(summary)
    for line, (_, *cells) in zip(lines, table_rows(summary)[1:], strict=True):
        _, *shown = (each.strip() for each in line.removesuffix(r"\\").split(" & "))
        assert shown == [tex(each) for each in cells]
        assert len(shown) == len(COLUMNS)
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
    assert tex_table({}, {}, "a\n% b").splitlines()[0] == "% a % b", "stays a comment"


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_pictures", lambda *_: ())


def written(folder: Path, content: dict[str, Any]) -> str:
    """The page of these results."""
    content = write_results(folder / "results.json", content)
    return report.write_report(folder, "results.json", content).read_text()


@pytest.fixture
def no_pdf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "KINDS", SVG)


@pytest.mark.usefixtures("no_pdf")
def test_class_names_are_shown_as_they_are(tmp_path: Path) -> None:
    page = written(tmp_path, made_up())
    assert "&lt;dog&gt; &amp; co" in page
    assert "<dog>" not in page
    assert "<b>birds" not in page
    for name in ("classes", "projection"):
        picture = (tmp_path / "figures" / f"a-{name}.svg").read_text()
        for shown in ("50% $off_", "Ätna", "&lt;dog&gt; &amp; co"):
            assert shown in picture
    assert (tmp_path / "table.tex").read_text().startswith("% b>, 2 seeds\n"), "no path"


@pytest.mark.usefixtures("no_pictures")
def test_the_name_of_an_experiment_is_its_title(tmp_path: Path) -> None:
    page = written(tmp_path, made_up(name="Larger critic <1>"))
    assert "<h1>Larger critic &lt;1&gt;</h1>" in page
    assert "<title>Larger critic &lt;1&gt;</title>" in page
    assert (tmp_path / "table.tex").read_text().startswith("% Larger critic <1>, 2 seeds\n")
    assert "<h1>Baseline and +D³ on cub</h1>" in written(tmp_path, made_up(data="/home/me/cub"))


@pytest.mark.usefixtures("no_pictures")
def test_where_it_was_made(tmp_path: Path) -> None:
    """Machine, versions, digests, and a command to copy."""
    page = written(tmp_path, made_up())
    for shown in ("x86_64, cpu, 1 thread<", "torch", "ab12", "cd34", "2026-01-02, 03:04 UTC"):
        assert shown in page
    assert '<pre class="command">d3 compare --data d</pre>' in page


@pytest.mark.usefixtures("no_pictures")
def test_every_seed_and_draw_is_on_the_page(tmp_path: Path) -> None:
    content = made_up()
    page = written(tmp_path, content)
    values = content["summary"]["a"]["d3_chosen"]["metrics"]["ausuc"]
    for value, draws in zip(values["per_seed"], values["per_draw"], strict=True):
        assert f"<td>{100 * value:.1f} ({100 * draws[0]:.1f}, {100 * draws[1]:.1f})</td>" in page


@pytest.mark.usefixtures("no_pdf")
def test_one_generator_is_shown_once(tmp_path: Path) -> None:
    """With weight 0 it is the baseline's; another weight makes another."""
    page = written(tmp_path, made_up())
    assert page.count("first principal component") == 1
    assert "baseline and +D³: critic" in page
    other = [[[1.0, 1.0]]] * 5
    moved = [
        run
        if run.variant == "baseline"
        else replace(
            run,
            record=replace(
                run.record,
                projection={**(run.record.projection or {}), "synthetic": other},
                history=[{"step": 1, "critic": 0.7}],
            ),
        )
        for run in made_up_runs()
    ]
    page = written(tmp_path, made_up(made=moved))
    assert page.count("first principal component") == 2
    assert "baseline: critic" in page
    assert "+D³: critic" in page


def test_numbers_that_are_not_finite_are_null() -> None:
    content = made_up()
    run = next(run for run in content["runs"] if run["variant"] == "d3")
    assert run["d3_history"] == [{"step": 1, "cls": None, "total": 2.0}]
    assert run["history"][0] == {"step": 1, "critic": None}
    assert content["details"]["a"]["projection"]["synthetic"]["baseline"][0] == [[0.0, 1.0]]
    json.dumps(content, allow_nan=False)


def test_details_by_hand() -> None:
    """Two draws of six rows: class 0 is seen; 1 and 4 are unseen."""
    labels = np.array([0, 0, 1, 1, 4, 4])
    run = finished_run(0)
    run = replace(run, evaluation=replace(run.evaluation, labels=labels))
    scored = {
        key: [Scored(run, [], np.zeros(51), np.array(predicted))]
        for key, predicted in (
            ("baseline", [[0, 1, 0, 1, 0, 0], [0, 0, 0, 1, 0, 4]]),
            ("d3", [labels, labels]),
        )
    }
    made = details(scored)
    assert made["row"] == "d3"
    classes = [(c["class"], c["unseen"], c["baseline"], c["headline"]) for c in made["classes"]]
    assert classes == [(0, False, 0.75, 1.0), (1, True, 0.5, 1.0), (4, True, 0.25, 1.0)]
    assert made["confusion"] == {
        "baseline": {"seen_as_seen": 0.75, "unseen_as_seen": 0.625},
        "headline": {"seen_as_seen": 1.0, "unseen_as_seen": 0.0},
    }
    common = {"taken_for": "cat", "unseen": False, "headline": 0.0}
    assert made["mistakes"] == [
        {"class": "fox", "baseline": 0.75, **common},
        {"class": "<dog> & co", "baseline": 0.5, **common},
    ]


def test_one_seed_has_no_interval_in_csv() -> None:
    text = csv_table({"a": made_up(seeds=1)["summary"]["a"]}, {"a": "d3"})
    row = next(csv.DictReader(io.StringIO(text)))
    assert row["ausuc_half_width"] == row["d_ausuc_half_width"] == ""
