"""The GZSL numbers against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from d3_plugin.errors import InputError
from d3_plugin.evaluation import (
    gzsl_metrics,
    harmonic_mean,
    ood_auroc,
    per_class_accuracy,
    seen_unseen_curve,
)
from tests.evaluation.brute_force import (
    SEEN,
    UNSEEN,
    few_examples,
    naive_accuracy,
    naive_curve,
    naive_harmonic,
    naive_point,
    problems,
    random_rows,
    trapezoids,
)

# --- by hand


def test_by_hand():
    """Two seen classes (0, 1) and one unseen (2); margins 3, 1, -1 and 2, -2."""
    labels = np.array([0, 0, 1, 2, 2])
    scores = np.array(
        [
            [4.0, 0.0, 1.0],  # right; called seen below offset 3
            [0.0, 2.0, 1.0],  # wrong class among the seen; margin 1
            [0.0, 1.0, 2.0],  # right once called seen; margin -1
            [3.0, 0.0, 1.0],  # unseen row called seen; margin 2
            [0.0, 0.0, 2.0],  # right; margin -2
        ]
    )
    seen, unseen = np.array([0, 1]), np.array([2])
    metrics = gzsl_metrics(scores, labels, seen, unseen)
    assert metrics.unseen == 0.5
    assert metrics.seen == 0.25  # class 0: 1 of 2, class 1: 0 of 1
    assert metrics.harmonic == pytest.approx(1 / 3)
    assert metrics.zsl == 1.0
    offsets, u, s = seen_unseen_curve(scores, labels, seen, unseen)
    assert u.tolist() == [1.0, 1.0, 0.5, 0.5, 0.5, 0.0]
    assert s.tolist() == [0.0, 0.25, 0.25, 0.25, 0.75, 0.75]
    assert offsets == pytest.approx([math.inf, 3, 2, 1, -1, -2])
    assert metrics.ausuc == pytest.approx(0.25 * 1.0 + 0.5 * 0.5)
    assert metrics.oracle_harmonic == pytest.approx(2 * 0.5 * 0.75 / 1.25)


@pytest.mark.parametrize(
    ("u", "s", "expected"),
    [(0.5, 0.5, 0.5), (0.2, 0.6, 0.3), (0.0, 0.9, 0.0), (0.9, 0.0, 0.0), (0.0, 0.0, 0.0)],
)
def test_harmonic_mean(u, s, expected):
    assert harmonic_mean(u, s) == pytest.approx(expected)


def test_every_row_wrong_gives_zero_and_not_nan():
    scores = np.array([[0.0, 1.0], [1.0, 0.0]])
    metrics = gzsl_metrics(scores, np.array([0, 1]), np.array([0]), np.array([1]))
    assert (metrics.unseen, metrics.seen, metrics.harmonic) == (0, 0, 0)
    assert (metrics.zsl, metrics.ausuc) == (1.0, 0.0)
    assert metrics.oracle_harmonic == 0.0


# --- per_class_accuracy


@few_examples
@given(problem=problems)
def test_per_class_accuracy_equals_loop(problem):
    scores, labels = random_rows(*problem)
    predicted = scores.argmax(axis=1)
    expected = naive_accuracy(labels, predicted, range(5))
    assert per_class_accuracy(labels, predicted, np.arange(5)) == pytest.approx(expected)


def test_classes_count_equally_whatever_their_rows():
    labels = np.array([0] * 99 + [1])
    assert per_class_accuracy(labels, np.zeros(100, dtype=int), np.array([0, 1])) == 0.5


def test_predictions_of_other_classes_do_not_join_the_mean():
    """recall_score without ``labels`` would average 1 and 0 over {0, 7} here, and give 1/4."""
    labels, predicted = np.array([0, 0]), np.array([0, 7])
    assert per_class_accuracy(labels, predicted, np.array([0])) == 0.5


def test_absent_and_foreign_classes_are_both_named():
    labels = np.array([0, 1, 5])
    with pytest.raises(InputError) as caught:
        per_class_accuracy(labels, labels, np.array([0, 1, 2, 3]))
    assert "classes without test rows: [2, 3]" in str(caught.value)
    assert "rows of other classes: [5]" in str(caught.value)


# --- gzsl_metrics


@few_examples
@given(problem=problems)
def test_metrics_equal_brute_force(problem):
    scores, labels = random_rows(*problem)
    metrics = gzsl_metrics(scores, labels, SEEN, UNSEEN)
    u, s = naive_point(scores, labels, 0.0)
    points = naive_curve(scores, labels)
    assert metrics.unseen == pytest.approx(u)
    assert metrics.seen == pytest.approx(s)
    assert metrics.harmonic == pytest.approx(naive_harmonic(u, s))
    assert metrics.zsl == pytest.approx(points[0][0])
    assert metrics.ausuc == pytest.approx(trapezoids(points), abs=1e-12)
    assert metrics.oracle_harmonic == pytest.approx(max(naive_harmonic(*p) for p in points))


@few_examples
@given(seed=st.integers(0, 10**6), bias=st.integers(-16, 16))
def test_constant_bias_moves_h_but_not_the_area(seed, bias):
    scores, labels = random_rows(seed, ties=True)
    biased = scores.copy()
    biased[:, SEEN] += bias
    before = gzsl_metrics(scores, labels, SEEN, UNSEEN)
    after = gzsl_metrics(biased, labels, SEEN, UNSEEN)
    assert after.ausuc == before.ausuc
    assert after.oracle_harmonic == before.oracle_harmonic
    assert after.zsl == before.zsl
    if bias > 8 + 2 * np.abs(scores).max():
        assert (after.unseen, after.harmonic) == (0, 0)


def test_constant_bias_changes_h():
    scores, labels = random_rows(0)
    biased = scores.copy()
    biased[:, SEEN] += 2.0
    before = gzsl_metrics(scores, labels, SEEN, UNSEEN)
    after = gzsl_metrics(biased, labels, SEEN, UNSEEN)
    assert after.unseen < before.unseen
    assert after.harmonic < before.harmonic - 0.05
    assert after.ausuc == pytest.approx(before.ausuc)


@few_examples
@given(seed=st.integers(0, 10**6))
def test_oracle_is_the_best_h_without_ties(seed):
    scores, labels = random_rows(seed)
    metrics = gzsl_metrics(scores, labels, SEEN, UNSEEN)
    assert metrics.oracle_harmonic >= metrics.harmonic - 1e-12


@few_examples
@given(seed=st.integers(0, 10**6), data=st.data())
def test_order_of_rows_and_of_the_split_does_not_matter(seed, data):
    scores, labels = random_rows(seed)
    order = data.draw(st.permutations(range(len(labels))))
    expected = gzsl_metrics(scores, labels, SEEN, UNSEEN)
    actual = gzsl_metrics(scores[order], labels[order], SEEN[::-1], UNSEEN[::-1])
    assert vars(actual) == pytest.approx(vars(expected))


def test_repeating_a_class_changes_nothing():
    """Per-class means: twenty copies of one class's rows weigh as much as one."""
    scores, labels = random_rows(3)
    copies = np.flatnonzero(labels == 4).repeat(19)
    more = np.concatenate([np.arange(len(labels)), copies])
    expected = gzsl_metrics(scores, labels, SEEN, UNSEEN)
    assert vars(gzsl_metrics(scores[more], labels[more], SEEN, UNSEEN)) == pytest.approx(
        vars(expected)
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite(bad):
    scores, labels = random_rows(0)
    scores[3, 2] = bad
    with pytest.raises(InputError, match="gzsl_metrics: scores contain NaN or Inf"):
        gzsl_metrics(scores, labels, SEEN, UNSEEN)


def test_shape_and_values_are_both_reported():
    scores, labels = random_rows(0)
    scores[0, 0] = np.nan
    with pytest.raises(InputError, match="gzsl_metrics: 2 problems:") as caught:
        gzsl_metrics(scores, labels[:-1], SEEN, UNSEEN)
    assert "labels is (29,), expected (30,)" in str(caught.value)
    assert "scores contain NaN or Inf" in str(caught.value)


@pytest.mark.parametrize("absent", range(5))
def test_absent_class(absent):
    scores, labels = random_rows(0)
    keep = labels != absent
    with pytest.raises(InputError, match=rf"classes without test rows: \[{absent}\]"):
        gzsl_metrics(scores[keep], labels[keep], SEEN, UNSEEN)


def test_row_of_a_class_in_neither_split():
    scores, labels = random_rows(0)
    with pytest.raises(InputError, match=r"rows of other classes: \[1\]"):
        gzsl_metrics(scores, labels, SEEN, np.array([4]))


# --- ood_auroc


def naive_auroc(seen, unseen):
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in seen for b in unseen]
    return sum(wins) / len(wins)


@few_examples
@given(
    seen=st.lists(st.integers(-5, 5), min_size=1, max_size=12),
    unseen=st.lists(st.integers(-5, 5), min_size=1, max_size=12),
)
def test_auroc_is_the_share_of_pairs_in_order(seen, unseen):
    actual = ood_auroc(np.array(seen, dtype=float), np.array(unseen, dtype=float))
    assert actual == pytest.approx(naive_auroc(seen, unseen))


def test_auroc_by_hand():
    assert ood_auroc(np.array([3.0, 2.0]), np.array([1.0, 0.0])) == 1.0
    assert ood_auroc(np.array([0.0]), np.array([1.0])) == 0.0
    assert ood_auroc(np.array([3.0, 1.0]), np.array([2.0, 1.0])) == 0.625
    assert ood_auroc(np.ones(4), np.ones(3)) == 0.5


@few_examples
@given(seed=st.integers(0, 10**6))
def test_auroc_swaps_to_its_complement_and_ignores_monotone_maps(seed):
    rng = np.random.default_rng(seed)
    seen, unseen = rng.normal(size=7) + 1, rng.normal(size=5)
    auroc = ood_auroc(seen, unseen)
    assume(auroc != 0.5)
    assert ood_auroc(unseen, seen) == pytest.approx(1 - auroc)
    assert ood_auroc(np.exp(seen), np.exp(unseen)) == pytest.approx(auroc)


@pytest.mark.parametrize(("unseen", "what"), [([], "is empty"), ([np.nan, 1.0], "contain NaN")])
def test_auroc_of_nothing_is_an_error(unseen: list[float], what: str) -> None:
    with pytest.raises(InputError, match=f"unseen_scores {what}"):
        ood_auroc(np.array([1.0, 2.0]), np.array(unseen))
