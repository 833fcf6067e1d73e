"""Warnings of what looks wrong in an evaluation."""

from __future__ import annotations

from d3_plugin.evaluation.final_classifier import HostScorer
from d3_plugin.evaluation.result import Evaluation

ADVICE = "; train_classifier= scores your own"
_GAP = 0.2  # less may be chance, or a training that has just begun


def doubts_of_classifier(
    scorer: HostScorer | None, evaluation: Evaluation | None = None
) -> list[str]:
    """Warnings if the host's classifier gives probabilities, or is far below the student.

    Args:
        scorer: the host's classifier; None if it is not scored.
        evaluation: with the scores of both; None to check for probabilities only.
    """
    if scorer is None:
        return []
    doubts = []
    if scorer.gives_probabilities:
        doubts.append(
            f"{scorer.name} gives probabilities: their logarithm is taken for scores. Logits or "
            "log-probabilities need no such step"
        )
    if evaluation is not None and (low := _far_below_student(scorer, evaluation)):
        advice = ADVICE if scorer.source == "default" else ""
        doubts.append(
            f"{scorer.name} is far below D³'s student: {', '.join(low)}{advice}; does "
            "it get the features, and the number of synthetic rows, of the host's own script?"
        )
    return doubts


def _far_below_student(scorer: HostScorer, evaluation: Evaluation) -> list[str]:
    """Metrics in which the host's classifier is far below the student, with both figures."""
    of_host, of_student = evaluation.host_scores, evaluation.student_scores
    if scorer.source == "plugin" or of_host is None or of_student is None:
        return []
    host, student = map(evaluation.metrics_of, (of_host, of_student[None]))
    if student.harmonic <= _GAP:  # it has not learnt the unseen classes
        return []
    # H falls with a mere bias towards seen classes, AUSUC does not.
    pairs = (("H", host.harmonic, student.harmonic, 10), ("AUSUC", host.ausuc, student.ausuc, 2))
    return [
        f"{metric} {own:.1%} against {other:.1%}"
        for metric, own, other, times in pairs
        if own < other / times and other - own > _GAP
    ]


def doubts_of_chance(evaluation: Evaluation) -> list[str]:
    """A warning if the host's classifier tells unseen classes apart no better than guessing."""
    if evaluation.host_scores is None:
        return []
    zsl = evaluation.metrics_of(evaluation.host_scores).zsl
    sentence = near_chance(zsl, len(evaluation.unseen_classes))
    return [sentence] if sentence else []


def near_chance(zsl: float, unseen_classes: int) -> str:
    """A warning if guessing would reach this ZSL accuracy, too; empty if it is better."""
    few = unseen_classes < 8  # where a short training is often no better than guessing
    chance = 1 / unseen_classes
    if few or zsl >= min(1.5 * chance, chance + 0.05):
        return ""
    return (
        f"ZSL accuracy {zsl:.1%} of {unseen_classes} unseen classes is what guessing gives "
        f"({chance:.1%}): the synthetic rows say nothing about unseen classes, or the "
        "generator has not been trained"
    )
