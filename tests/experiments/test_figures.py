"""What the pictures show, read from the figure before it becomes a PNG."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from d3_plugin.experiments import figures
from tests.experiments.tiny import SEEN, outcome


@pytest.mark.parametrize("scale", [1.0, -20.0], ids=["confidence", "energy below 0"])
def test_the_histogram_shows_every_row(scale: float) -> None:
    """The bars of each domain add up to 1, whatever the range of the teacher's score."""
    made = outcome(0)
    is_seen = np.isin(made.evaluation.labels, SEEN)
    score = scale * np.where(is_seen, 0.9, 0.1) + np.linspace(0, 0.1, len(is_seen))
    with_teacher = replace(made, evaluation=replace(made.evaluation, teacher_score=score))
    figure: Any = figures.teacher_figure([with_teacher, outcome(1)])
    seen, unseen = figure.axes[0].containers
    assert [text.get_text() for text in figure.axes[0].get_legend().texts] == ["seen", "unseen"]
    for bars, rows in ((seen, score[is_seen]), (unseen, score[~is_seen])):
        assert sum(bar.get_height() for bar in bars) == pytest.approx(1)
        middles = [bar.get_x() + bar.get_width() / 2 for bar in bars]
        mean = np.dot(middles, [bar.get_height() for bar in bars])
        assert mean == pytest.approx(rows.mean(), abs=bars[0].get_width())
