"""Rivals choose on validation and change only what they say they change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import pytest

from d3_plugin import D3Settings
from d3_plugin.evaluation import gzsl_metrics, harmonic_mean, per_class_accuracy
from d3_plugin.evaluation.calibration import choose_offset, choose_strength
from d3_plugin.evaluation.metrics import GZSLMetrics
from d3_plugin.evaluation.result import Evaluation
from d3_plugin.report.rows import COMPARISON
from tests.experiments.tiny import SEEN, UNSEEN, outcome


def evaluation(seed: int, bias: float = 0.0, draws: int = 2) -> Evaluation:
    return outcome(seed, bias, draws).evaluation


def metrics_of_row(key: str, validations: Sequence[Evaluation], test: Evaluation) -> GZSLMetrics:
    """What the table's row ``key`` shows of this test run."""
    (row,) = (row for row in COMPARISON if row.key == key)
    return test.metrics_of(row.scores(test, validations, D3Settings()))


def mean_harmonic(made: Evaluation, scores: np.ndarray) -> float:
    labels = made.labels
    unseen_rows = np.isin(labels, UNSEEN)
    values = []
    for draw in scores:
        predicted = draw.argmax(axis=1)
        u = per_class_accuracy(labels[unseen_rows], predicted[unseen_rows], UNSEEN)
        s = per_class_accuracy(labels[~unseen_rows], predicted[~unseen_rows], SEEN)
        values.append(harmonic_mean(u, s))
    return float(np.mean(values))


@pytest.mark.parametrize("bias", [0.0, 2.0, -3.0])
def test_offset_is_as_good_as_a_fine_grid(bias: float) -> None:
    validation = evaluation(0, bias)
    chosen = choose_offset([validation])

    def shifted(offset: float) -> float:
        scores = validation.scores.astype(np.float64)
        scores[:, :, SEEN] -= offset
        return mean_harmonic(validation, scores)

    assert shifted(chosen) >= max(shifted(o) for o in np.linspace(-6, 6, 61)) - 0.01
    assert chosen == pytest.approx(bias, abs=1.0)


def test_calibrated_stacking_undoes_a_bias_and_leaves_ausuc() -> None:
    test = evaluation(1, bias=2.5)
    made = metrics_of_row("baseline_calibrated", [evaluation(0, bias=2.5)], test)
    assert made.harmonic > test.metrics.harmonic + 0.1
    raw = [gzsl_metrics(s.astype(float), test.labels, SEEN, UNSEEN).ausuc for s in test.scores]
    assert made.ausuc == pytest.approx(np.mean(raw))


def test_nothing_is_chosen_on_test_rows() -> None:
    """Permuting the test labels changes results, but no choice."""
    validation, test = evaluation(0, 1.0), evaluation(1, 1.0)
    rng = np.random.default_rng(0)
    shuffled = replace(test, labels=rng.permutation(test.labels))
    scores = test.scores.astype(np.float64)
    scores[:, :, SEEN] -= choose_offset([validation])
    for made in (test, shuffled):
        expected = mean_harmonic(made, scores)
        assert metrics_of_row("baseline_calibrated", [validation], made).harmonic == pytest.approx(
            expected
        )


def test_logit_adjustment_subtracts_the_log_prior() -> None:
    validation, test = evaluation(0, 1.0), evaluation(1, 1.0)
    strength = choose_strength([validation])
    scores = test.scores - strength * np.log(test.prior)
    assert metrics_of_row("baseline_adjusted", [validation], test).harmonic == pytest.approx(
        mean_harmonic(test, scores)
    )
    assert -2 <= strength <= 2


def test_summed_draws_is_the_product_of_their_probabilities() -> None:
    test = evaluation(0, draws=3)
    probabilities = np.ones(test.scores.shape[1:])
    for draw in test.scores.astype(np.float64):
        probabilities *= np.exp(draw) / np.exp(draw).sum(axis=1, keepdims=True)
    made = metrics_of_row("baseline_summed", [], test)
    expected = gzsl_metrics(np.log(probabilities), test.labels, SEEN, UNSEEN)
    for name, value in asdict(expected).items():
        assert getattr(made, name) == pytest.approx(value), name
    assert made.ausuc > test.metrics.ausuc + 0.1, "three independent draws"


def test_offset_is_the_middle_of_the_best_interval() -> None:
    """Margins: seen row 5, unseen row 1. Every offset in [1, 5) is perfect."""
    scores = np.array([[[5.0, 0.0], [1.0, 0.0]]], dtype=np.float32)
    labels, seen, unseen = np.array([0, 1]), np.array([0]), np.array([1])
    only = replace(evaluation(0), scores=scores, labels=labels)
    only = replace(only, seen_classes=seen, unseen_classes=unseen)
    assert choose_offset([only]) == pytest.approx(3.0)


def test_choices_are_made_on_all_cuts_together() -> None:
    """Two cuts of opposite bias: one constant for both, with the best mean of their H."""
    cuts = [evaluation(0, bias=2.0), evaluation(1, bias=-1.0)]

    def shifted(offset: float) -> float:
        def of(cut: Evaluation) -> float:
            scores = cut.scores.astype(np.float64)
            scores[:, :, SEEN] -= offset
            return mean_harmonic(cut, scores)

        return float(np.mean([of(cut) for cut in cuts]))

    chosen = choose_offset(cuts)
    assert shifted(chosen) >= max(shifted(o) for o in np.linspace(-4, 4, 161)) - 0.005
    assert choose_offset(cuts[1:]) < chosen < choose_offset(cuts[:1])
    assert choose_offset(cuts[::-1]) == pytest.approx(chosen)

    def adjusted(strength: float) -> float:
        priors = (strength * np.log(cut.prior) for cut in cuts)
        pairs = zip(cuts, priors, strict=True)
        return float(np.mean([mean_harmonic(c, c.scores - p) for c, p in pairs]))

    best = max(adjusted(strength) for strength in np.linspace(-2, 2, 81))
    assert adjusted(choose_strength(cuts)) == pytest.approx(best)
