"""The seen-unseen curve against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given

from d3_plugin.errors import InputError
from d3_plugin.evaluation import gzsl_metrics, seen_unseen_curve
from tests.evaluation.brute_force import (
    SEEN,
    UNSEEN,
    few_examples,
    naive_accuracy,
    naive_curve,
    problems,
    random_rows,
)


@few_examples
@given(problem=problems)
def test_curve_equals_brute_force(problem):
    scores, labels = random_rows(*problem)
    _, u, s = seen_unseen_curve(scores, labels, SEEN, UNSEEN)
    expected = naive_curve(scores, labels)
    assert np.stack([u, s], axis=1) == pytest.approx(np.array(expected), abs=1e-12)


@few_examples
@given(problem=problems)
def test_values_hold_up_to_and_at_their_offset_but_not_at_the_next(problem):
    """(offsets[i+1], offsets[i]], as the docstring says.

    Scores are multiples of 1/64, so that subtracting such an offset is exact.
    """
    scores, labels = random_rows(*problem)
    scores = np.round(scores * 64) / 64
    offsets, u, s = seen_unseen_curve(scores, labels, SEEN, UNSEEN)
    assert offsets[0] == math.inf
    assert (np.diff(offsets) < 0).all()
    margin = scores[:, SEEN].max(axis=1) - scores[:, UNSEEN].max(axis=1)
    for i in range(len(offsets)):
        inside = [offsets[i]]  # the closed end
        following = offsets[i + 1] if i + 1 < len(offsets) else -1e6
        inside.append(np.nextafter(following, np.inf))  # just above the open end
        if math.isfinite(offsets[i]):
            inside.append((offsets[i] + following) / 2)
        for offset in inside:
            called_seen = margin > offset
            right = np.where(called_seen[:, None], _only(scores, SEEN), _only(scores, UNSEEN))
            predicted = right.argmax(axis=1)
            assert naive_accuracy(labels, predicted, UNSEEN) == pytest.approx(u[i])
            assert naive_accuracy(labels, predicted, SEEN) == pytest.approx(s[i])


def _only(scores, classes):
    """Scores with every other class out of reach."""
    kept = np.full_like(scores, -np.inf)
    kept[:, classes] = scores[:, classes]
    return kept


@few_examples
@given(problem=problems)
def test_curve_runs_from_all_unseen_to_all_seen(problem):
    scores, labels = random_rows(*problem)
    offsets, u, s = seen_unseen_curve(scores, labels, SEEN, UNSEEN)
    assert len(offsets) == len(u) == len(s)
    assert s[0] == 0
    assert u[-1] == pytest.approx(0, abs=1e-12)
    assert (np.diff(u) <= 0).all()
    assert (np.diff(s) >= 0).all()
    assert ((u >= 0) & (u <= 1) & (s >= 0) & (s <= 1)).all()


def test_rows_of_equal_margin_move_together():
    """Both rows have margin 1: no point of the curve has one called seen and the other not."""
    scores, labels = np.array([[2.0, 1.0], [1.0, 0.0]]), np.array([0, 1])
    offsets, u, s = seen_unseen_curve(scores, labels, np.array([0]), np.array([1]))
    assert (u.tolist(), s.tolist()) == ([1.0, 0.0], [0.0, 1.0])
    assert offsets[1] == np.nextafter(1.0, -np.inf)
    assert gzsl_metrics(scores, labels, np.array([0]), np.array([1])).ausuc == 0.5


def test_every_class_needs_a_row():
    scores, labels = random_rows(0)
    keep = labels != 4
    with pytest.raises(InputError, match=r"classes without test rows: \[4\]"):
        seen_unseen_curve(scores[keep], labels[keep], SEEN, UNSEEN)
