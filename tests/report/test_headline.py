"""One row is the headline: everything that a reader sees of a comparison is of it."""

from __future__ import annotations

import csv
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d3_plugin.evaluation.calibration import choose_ensemble, rescored
from d3_plugin.report.page import write_report
from d3_plugin.report.results import write_results
from d3_plugin.report.rows import COMPARISON
from d3_plugin.report.verdict import failures, read_conditions, verdict
from tests.report.made_up import LABELS, SEEN, content, runs

TITLE = "+D³ (tuned on validation classes)"


@pytest.fixture(scope="module")
def results() -> Any:
    made = content(3)
    shown = made["summary"]["a"]
    tuned, plain = (shown[key]["metrics"]["harmonic"] for key in ("d3_chosen", "d3"))
    assert abs(tuned["mean"] - plain["mean"]) > 0.005, "the two rows must differ to be told apart"
    return made


@pytest.fixture(scope="module")
def folder(results: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("headline")
    write_report(out, "results.json", write_results(out / "results.json", results))
    return out


def test_it_is_named_once() -> None:
    assert [row.title for row in COMPARISON if row.key == "d3_chosen"] == [TITLE]


def test_verdict_and_gate(results: Any) -> None:
    summary = results["summary"]
    gain = summary["a"]["d3_chosen"]["metrics"]["harmonic"]["difference"]["mean"]
    said = verdict("a", summary["a"])
    assert said.startswith(f"a: {TITLE}")
    assert f"H {100 * gain:+.1f} ± " in said
    gate = read_conditions(["d_harmonic > -1"], ["a"], summary["a"], 3)
    assert failures(gate, summary)[0].startswith(f"a d_harmonic > -1: of {TITLE} it is {gain:.4g} ")


def test_page(results: Any, folder: Path) -> None:
    page = unescape((folder / "report.html").read_text())
    judged = re.findall(r'<tr class="(?:d3_chosen )?headline">\s*<th scope="row">(.*?)</th>', page)
    assert judged == [TITLE] * 3, "the table, and those of each seed"
    assert "d3.evaluate(**chosen)" in page
    captions = dict(
        re.findall(r'<figure class="(\w+)">.*?<figcaption>(.*?)</figcaption>', page, re.S)
    )
    for name in ("curves", "classes"):
        assert TITLE in captions[name]
        assert TITLE in unescape((folder / "figures" / f"a-{name}.svg").read_text())
    assert f'<th scope="col">{TITLE}: as seen</th>' in page
    assert f'<th scope="col">{TITLE}</th>' in page, "what unseen classes are taken for"
    row = results["summary"]["a"]["d3_chosen"]["metrics"]
    assert (
        f"{100 * row['ausuc']['mean']:.1f} ±"
        in re.search(r'<tr class="d3_chosen headline">.*?</tr>', page, re.S)[0]
    )


def test_details_are_of_its_predictions(results: Any) -> None:
    """Accuracies and confusions are those of the scores with the chosen constants."""
    made = {(run.split, run.seed): run.evaluation for run in runs(3) if run.variant == "d3"}
    right, as_seen = [], []
    for seed in range(3):
        chosen = choose_ensemble([made["validation", seed]])
        predicted = rescored(made["test", seed], **chosen).scores.argmax(axis=2)
        right.append((predicted[:, LABELS == 4] == 4).mean())
        as_seen.append(np.isin(predicted[:, ~np.isin(LABELS, SEEN)], SEEN).mean())
    details = results["details"]["a"]
    assert details["row"] == "d3_chosen"
    (of_class,) = (each for each in details["classes"] if each["class"] == 4)
    assert of_class["headline"] == pytest.approx(np.mean(right), abs=1e-4)
    assert details["confusion"]["headline"]["unseen_as_seen"] == pytest.approx(
        np.mean(as_seen), abs=1e-4
    )


def test_tables(folder: Path) -> None:
    with (folder / "table.csv").open(newline="", encoding="utf-8") as file:
        judged = {line["title"] for line in csv.DictReader(file) if line["headline"]}
    assert judged == {TITLE}
    tex = (folder / "table.tex").read_text()
    assert re.findall(r"\\textbf\{(.*?)\} &", tex) == ["+D$^3$ (tuned on validation classes)"]
