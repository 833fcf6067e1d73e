"""What the pictures show, read from the figure before it becomes a PNG."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from d3_plugin.report import figures
from d3_plugin.report.details import details
from d3_plugin.report.figures import SHOWN_CLASSES
from d3_plugin.report.statistics import interval
from tests.experiments.tiny import SEEN, outcome


@pytest.mark.parametrize("scale", [1.0, -20.0], ids=["confidence", "energy below 0"])
def test_the_histogram_shows_every_row(scale: float) -> None:
    """The bars of each domain add up to 1, whatever the range of the teacher's score."""
    made = outcome(0)
    is_seen = np.isin(made.evaluation.labels, SEEN)
    score = scale * np.where(is_seen, 0.9, 0.1) + np.linspace(0, 0.1, len(is_seen))
    with_teacher = replace(made, evaluation=replace(made.evaluation, teacher_score=score))
    teacher = details({"baseline": [made], "d3": [with_teacher, outcome(1)]})["teacher"]
    figure: Any = figures.teacher_figure(teacher)
    seen, unseen = figure.axes[0].patches
    assert [text.get_text() for text in figure.axes[0].get_legend().texts] == ["seen", "unseen"]
    for bars, rows in ((seen, score[is_seen]), (unseen, score[~is_seen])):
        heights, edges, _ = bars.get_data()
        assert sum(heights) == pytest.approx(1, abs=1e-3)
        mean = np.dot((edges[1:] + edges[:-1]) / 2, heights)
        assert mean == pytest.approx(rows.mean(), abs=edges[1] - edges[0])


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_curves_have_points_and_from_three_seeds_on_an_interval(seeds: int) -> None:
    rng = np.random.default_rng(0)
    runs = [
        {"curve": np.sort(rng.random(51))[::-1], "metrics": {"seen": s / 9, "unseen": s / 7}}
        for s in range(seeds)
    ]
    figure: Any = figures.curve_figure({"d3": runs}, "title", detailed=True)
    axes = figure.axes[0]
    bands = [each for each in axes.collections if isinstance(each, PolyCollection)]
    points = [tuple(line.get_xydata()[0]) for line in axes.lines if line.get_marker() == "o"]
    assert points == [(s / 9, s / 7) for s in range(seeds)]
    assert len(bands) == (seeds == 3)
    curves = [line for line in axes.lines if line.get_marker() != "o"]
    assert len(curves) == 1 + (seeds if seeds < 3 else 0), "the mean, or also each seed's"
    if seeds == 3:
        at_zero = [run["curve"][0] for run in runs]
        ends = [y for x, y in bands[0].get_paths()[0].vertices if x == 0]
        made = interval(at_zero)
        assert max(ends) == pytest.approx(made["mean"] + made["half_width"])


def of_classes(number: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    return [
        {"class": i, "name": f"class {i}", "unseen": i % 2 == 0, "baseline": b, "d3": d}
        for i, (b, d) in enumerate(rng.random((number, 2)))
    ]


def test_many_classes_stay_readable() -> None:
    """Of 300 classes those that change most, and it is said so."""
    classes = of_classes(300)
    figure: Any = figures.class_figure(classes)
    assert figure.get_size_inches()[1] < 8
    for axes, domain in zip(figure.axes, ("unseen", "seen"), strict=True):
        assert axes.get_title() == f"{SHOWN_CLASSES} of 150 {domain} classes"
        of_domain = [each for each in classes if each["unseen"] == (domain == "unseen")]
        of_domain.sort(key=lambda each: each["d3"] - each["baseline"])
        half = SHOWN_CLASSES // 2
        expected = [each["name"] for each in of_domain[:half] + of_domain[-half:]]
        assert [text.get_text() for text in axes.get_yticklabels()] == expected


def test_few_classes_are_all_shown() -> None:
    classes = of_classes(7)
    figure: Any = figures.class_figure(classes)
    unseen, seen = figure.axes
    assert (unseen.get_title(), seen.get_title()) == ("unseen classes", "seen classes")
    baseline, d3 = unseen.lines
    shown = dict(zip([t.get_text() for t in unseen.get_yticklabels()], d3.get_xdata(), strict=True))
    assert shown == {each["name"]: each["d3"] for each in classes if each["unseen"]}
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
