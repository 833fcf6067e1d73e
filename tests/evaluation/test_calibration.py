"""The student's weight and the offset are chosen on validation classes, by AUSUC and then by H."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from d3_plugin.data import GZSLData
from d3_plugin.evaluation import gzsl_metrics
from d3_plugin.evaluation.calibration import WEIGHTS, choose_ensemble, rescored
from d3_plugin.evaluation.final_classifier import final_scores
from d3_plugin.evaluation.result import Evaluation
from d3_plugin.experiments.run import Outcome
from d3_plugin.report.rows import COMPARISON, FinishedRun
from d3_plugin.report.statistics import score
from tests.experiments.tiny import SEEN, UNSEEN, outcome
from tests.toys import ScriptHost, attach


def scored(number: int, *, student: float = 1.0, bias: float = 0.0) -> Outcome:
    """A host and a student of its own, which knows the labels ``student`` times as well."""
    made = outcome(number, bias)
    labels = made.evaluation.labels
    logits = np.random.default_rng(100 + number).normal(size=(len(labels), 5))
    logits[np.arange(len(labels)), labels] += 1.5 * student
    scores = torch.from_numpy(logits).float().log_softmax(dim=1).numpy()
    return replace(made, evaluation=replace(made.evaluation, student_scores=scores))


def evaluations(*outcomes: Outcome) -> list[Evaluation]:
    return [each.evaluation for each in outcomes]


def measured(made: Outcome, metric: str, weight: float, offset: float = 0.0) -> float:
    """Mean over the draws, from the formula."""
    e = made.evaluation
    host = torch.from_numpy(e.host_scores).double().log_softmax(dim=2).numpy()
    scores = host + weight * e.student_scores
    scores[:, :, SEEN] -= offset * math.log(len(SEEN))
    if metric == "ausuc":
        return float(np.mean([gzsl_metrics(s, e.labels, SEEN, UNSEEN).ausuc for s in scores]))
    correct = scores.argmax(axis=2) == e.labels
    u, s = (
        np.mean([correct[:, e.labels == each].mean(axis=1) for each in classes], axis=0)
        for classes in (UNSEEN, SEEN)
    )
    return float(np.mean(2 * u * s / (u + s)))


@pytest.mark.parametrize("bias", [0.0, 1.0, -2.0])
@pytest.mark.parametrize("student", [0.3, 1.0, 2.0])
def test_the_choice_is_that_of_brute_force(student: float, bias: float) -> None:
    cuts = [scored(number, student=student, bias=bias) for number in (0, 1)]
    chosen = choose_ensemble(evaluations(*cuts))

    def mean(metric: str, *constants: float) -> float:
        return float(np.mean([measured(cut, metric, *constants) for cut in cuts]))

    weight = chosen["ensemble_weight"]
    assert weight == max(WEIGHTS, key=lambda w: mean("ausuc", w))
    best = max(mean("harmonic", weight, offset) for offset in np.linspace(0, 4, 201))
    assert mean("harmonic", weight, chosen["seen_offset"]) >= best - 1e-9
    assert chosen["seen_offset"] >= 0


def test_weight_zero_where_the_student_is_noise() -> None:
    cuts = [scored(number, student=0.0) for number in range(3)]
    assert choose_ensemble(evaluations(*cuts))["ensemble_weight"] == 0
    cuts = [scored(number, student=3.0) for number in range(3)]
    assert choose_ensemble(evaluations(*cuts))["ensemble_weight"] == max(WEIGHTS)


def test_test_labels_change_no_choice() -> None:
    """All rows of a table: permuted labels give the metrics of the same scores."""
    rng = np.random.default_rng(0)
    cut, test = scored(0, bias=1.0), scored(1, bias=1.0)
    shuffled = replace(test.evaluation, labels=rng.permutation(test.evaluation.labels))
    chosen = choose_ensemble(evaluations(cut))
    (row,) = (row for row in COMPARISON if row.key == "d3_chosen")
    for made in (test, replace(test, evaluation=shuffled)):
        runs = [
            FinishedRun("a", 0, split, "d3", each.evaluation, each)
            for split, each in (("validation", cut), ("test", made))
        ]
        metrics = score(runs, row, 0, [0]).metrics
        for name, constants in (
            ("harmonic", chosen.values()),
            ("ausuc", [chosen["ensemble_weight"]]),
        ):
            mean = np.mean([each[name] for each in metrics])
            assert mean == pytest.approx(measured(made, name, *constants))


def test_the_offset_has_the_unit_of_the_setting() -> None:
    """Validation and test problem have other numbers of seen classes."""
    cut = scored(0, bias=2.0).evaluation
    chosen = choose_ensemble([cut])
    few = replace(cut, seen_classes=SEEN[:2], unseen_classes=np.array([1, 3, 4]))
    scores = final_scores(
        torch.from_numpy(few.host_scores),
        torch.from_numpy(few.student_scores),
        torch.from_numpy(few.seen_classes),
        **chosen,
    ).numpy()
    metrics = [
        gzsl_metrics(s.astype(float), few.labels, few.seen_classes, few.unseen_classes)
        for s in scores
    ]
    made = rescored(few, **chosen).metrics
    assert made.harmonic == pytest.approx(np.mean([m.harmonic for m in metrics]))


def test_a_script_calibrates_on_its_validation_classes(toy_data: GZSLData) -> None:
    cuts = []
    for seed in (0, 1):
        host = ScriptHost(toy_data)
        d3 = attach(host, seed=seed)
        host.run(3, d3)
        cuts.append(d3)
    chosen = cuts[0].calibrate(cuts[1], draws=2)
    assert chosen == choose_ensemble([d3.evaluate(draws=2) for d3 in cuts])
    assert cuts[0].evaluate(**chosen).metrics.harmonic >= 0
    assert chosen["ensemble_weight"] in WEIGHTS
