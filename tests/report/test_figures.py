"""What the pictures show, read from the figure before it becomes a PNG."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from d3_plugin.report import figures
from d3_plugin.report.figures import SHOWN_CLASSES
from d3_plugin.report.results import results
from d3_plugin.report.rows import COLORS, COMPARISON, HEADLINE_COLOR, drawn
from d3_plugin.report.statistics import interval
from tests.report.made_up import LABELS, SEEN, SETTINGS, content, finished


@pytest.mark.parametrize("scale", [1.0, -20.0], ids=["confidence", "energy below 0"])
def test_the_histogram_shows_every_row(scale: float) -> None:
    """The bars of each domain add up to 1, whatever the range of the teacher's score."""
    made = finished(0, "d3", student_bias=0.0)
    is_seen = np.isin(LABELS, SEEN)
    score = scale * np.where(is_seen, 0.9, 0.1) + np.linspace(0, 0.1, len(is_seen))
    made = replace(made, evaluation=replace(made.evaluation, teacher_score=score))
    rows = [row for row in COMPARISON if row.key in ("baseline", "d3")]
    content = results(SETTINGS, [finished(0), made], rows, {0: []}, command="")
    teacher = content["details"]["a"]["teacher"]
    figure: Any = figures.teacher_figure(teacher)
    seen, unseen = figure.axes[0].patches
    assert [text.get_text() for text in figure.axes[0].get_legend().texts] == ["seen", "unseen"]
    for bars, rows in ((seen, score[is_seen]), (unseen, score[~is_seen])):
        heights, edges, _ = bars.get_data()
        assert sum(heights) == pytest.approx(1, abs=1e-3)
        mean = np.dot((edges[1:] + edges[:-1]) / 2, heights)
        assert mean == pytest.approx(rows.mean(), abs=edges[1] - edges[0])


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_the_headline_has_its_spread(seeds: int) -> None:
    summary = content(seeds)["summary"]["a"]
    figure: Any = figures.curve_figure(summary, drawn(summary), "title", wide=True)
    axes = figure.axes[0]
    bands = [each for each in axes.collections if isinstance(each, PolyCollection)]
    judged = summary["d3_chosen"]
    shown = [line for line in axes.lines if line.get_color() == HEADLINE_COLOR]
    of_seeds = [line.get_xydata() for line in shown if line.get_marker() == "o"]
    expected = [judged["metrics"][m]["per_seed"] for m in ("seen", "unseen")]
    assert of_seeds[0].tolist() == np.transpose(expected).tolist()
    curves = [line for line in shown if line.get_marker() != "o"]
    assert len(curves) == 1 + (seeds if seeds == 2 else 0), "the mean, or also each seed's"
    assert curves[0].get_ydata() == pytest.approx(np.mean(judged["curves"], axis=0))
    assert len(bands) == (seeds == 3)
    if seeds == 3:
        at_zero = [curve[0] for curve in judged["curves"]]
        ends = [y for x, y in bands[0].get_paths()[0].vertices if x == 0]
        made = interval(at_zero)
        assert max(ends) == pytest.approx(made["mean"] + made["half_width"])


def test_rivals_stand_beside_the_headline() -> None:
    """Calibrated stacking moves along the baseline's curve: it has dots alone."""
    summary = content()["summary"]["a"]
    figure: Any = figures.curve_figure(summary, drawn(summary), "title")
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [summary[key]["title"] for key in drawn(summary)]
    assert len(legend) == 5
    lines = figure.axes[0].lines
    curves = {line.get_color() for line in lines if line.get_marker() != "o"}
    assert COLORS["baseline_calibrated"] not in curves
    assert {COLORS["baseline"], COLORS["baseline_summed"], HEADLINE_COLOR} <= curves
    del summary["baseline_summed"]["curves"][:]
    figure = figures.curve_figure(summary, ["baseline", "baseline_summed"], "not kept")
    assert len([line for line in figure.axes[0].lines if line.get_marker() != "o"]) == 1


TITLES = {"baseline": "baseline", "headline": "+D³ (tuned)"}


def of_classes(number: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    return [
        {"class": i, "name": f"class {i}", "unseen": i % 2 == 0, "baseline": b, "headline": d}
        for i, (b, d) in enumerate(rng.random((number, 2)))
    ]


def test_many_classes_stay_readable() -> None:
    """Of 300 classes those that change most, and it is said so."""
    classes = of_classes(300)
    figure: Any = figures.class_figure(classes, TITLES)
    assert figure.get_size_inches()[1] < 8
    for axes, domain in zip(figure.axes, ("unseen", "seen"), strict=True):
        assert axes.get_title() == f"{SHOWN_CLASSES} of 150 {domain} classes"
        of_domain = [each for each in classes if each["unseen"] == (domain == "unseen")]
        of_domain.sort(key=lambda each: each["headline"] - each["baseline"])
        half = SHOWN_CLASSES // 2
        expected = [each["name"] for each in of_domain[:half] + of_domain[-half:]]
        assert [text.get_text() for text in axes.get_yticklabels()] == expected


def test_few_classes_are_all_shown() -> None:
    classes = of_classes(7)
    figure: Any = figures.class_figure(classes, TITLES)
    unseen, seen = figure.axes
    assert (unseen.get_title(), seen.get_title()) == ("unseen classes", "seen classes")
    baseline, d3 = unseen.lines
    shown = dict(zip([t.get_text() for t in unseen.get_yticklabels()], d3.get_xdata(), strict=True))
    assert shown == {each["name"]: each["headline"] for each in classes if each["unseen"]}
    gains = np.subtract(d3.get_xdata(), baseline.get_xdata())
    assert (np.diff(gains) >= 0).all(), "the largest gain on top"


def test_losses_of_seeds_are_averaged_where_they_are_numbers() -> None:
    histories = [
        [{"step": 2, "critic": 1.0}, {"step": 4, "critic": None}],
        [{"step": 2, "critic": 3.0}, {"step": 4, "critic": 5.0}],
    ]
    runs = {"d3": [{"history": history} for history in histories]}
    figure: Any = figures.loss_figure(runs)
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[2, 2], [4, 5]]


def test_terms_and_the_teachers_confidence() -> None:
    entry = {"step": 1, "cls": 0.5, "kl": 0.1, "total": 0.6, "gradient_share": 0.01}
    history = [{**entry, "teacher_real": 0.9, "teacher_synthetic": 0.4}]
    terms, teacher = (axes for axes in figures.term_figure([{"d3_history": history}]).axes)
    labels = ([line.get_label() for line in axes.lines] for axes in (terms, teacher))
    assert next(labels) == ["L_cls", "L_kl", "total"]
    assert next(labels) == ["real rows", "synthetic rows", "share of the gradient"]
    assert [line.get_ydata().tolist() for line in teacher.lines] == [[0.9], [0.4], [0.01]]
