"""Scores a host, with or without D³, on the test rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pluggy
import torch
from torch import Tensor

from d3_plugin.checks import Count, Seed, check_arguments
from d3_plugin.distillation.distiller import Distiller
from d3_plugin.distillation.settings import FinalClassifier
from d3_plugin.errors import HostError, InputError
from d3_plugin.evaluation.metrics import GZSLMetrics, gzsl_metrics, ood_auroc
from d3_plugin.functional import id_score
from d3_plugin.hooks.manager import make_manager
from d3_plugin.hosts.describe import describe_trainer
from d3_plugin.hosts.host import Host, Scorer
from d3_plugin.hosts.isolation import RandomStream
from d3_plugin.hosts.module_state import eval_mode
from d3_plugin.hosts.synthesis import synthesize


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One classifier, or its draws, on the test rows (seen rows first, then unseen ones).

    Attributes:
        metrics: means over the draws.
        scores: (draws, N, C) float32 scores over all classes: those of the host's classifier, or
            log-probabilities of the student or of the ensemble, minus the offset.
        host_scores: those of the host's final classifier alone; equal to ``scores`` without D³,
            None if the student classifies alone.
        student_scores: (N, C) log-probabilities of the student; None if the host classifies alone.
        labels: (N,) class ids.
        prior: (C,) share of each class in the final classifier's training rows; None if the
            student classifies alone.
        teacher_score: (N,) in-distribution score of the teacher, higher = more like seen data;
            None without D³.
        teacher_auroc: AUROC of that score for seen against unseen test rows.
    """

    metrics: GZSLMetrics
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    host_scores: npt.NDArray[np.float32] | None = None
    prior: npt.NDArray[np.float64] | None = None
    teacher_score: npt.NDArray[np.float64] | None = None
    teacher_auroc: float | None = None
    student_scores: npt.NDArray[np.float32] | None = None

    def __str__(self) -> str:
        m = self.metrics
        text = (
            f"U {m.unseen:.1%}  S {m.seen:.1%}  H {m.harmonic:.1%}  "
            f"ZSL {m.zsl:.1%}  AUSUC {m.ausuc:.1%}"
        )
        return text if self.teacher_auroc is None else f"{text}  teacher {self.teacher_auroc:.1%}"


def mean_metrics(metrics: list[GZSLMetrics]) -> GZSLMetrics:
    """Means of each metric; the mean of H is not the H of the means."""
    return GZSLMetrics(
        **{
            f.name: float(np.mean([getattr(m, f.name) for m in metrics]))
            for f in fields(metrics[0])
        }
    )


def evaluate(
    trainer: Any, *, seed: Seed = 0, draws: Count = 1, plugins: Iterable[object] = ()
) -> Evaluation:
    """U, S, H, AUSUC of a trained baseline, by the protocol of :meth:`d3_plugin.D3.evaluate`.

    Args:
        trainer: a trainer object that an installed plugin, or one of ``plugins``, knows.
        seed: of the noise and of the final classifier.
        draws: how many draws of synthetic features to average over.
        plugins: further plugins.

    Raises:
        InputError: ``draws`` is below 1.
        HostError: no plugin knows the trainer.
    """
    check_arguments(evaluate, locals())
    manager = make_manager(plugins)
    return score_host(describe_trainer(manager, trainer), manager.hook, seed=seed, draws=draws)


def score_host(
    host: Host,
    hooks: pluggy.HookRelay,
    *,
    seed: int,
    draws: int = 1,
    distiller: Distiller | None = None,
    final_classifier: FinalClassifier = "host",
    ensemble_weight: float = 1.0,
    seen_offset: float = 0.0,
) -> Evaluation:
    """Score a host's test rows with its own final classifier, the student's, or both.

    The host is in eval mode meanwhile; global random streams stay where they are. The same seed
    gives the same noise with and without D³.

    Args:
        host: the host; its generator is used as it stands.
        hooks: ``manager.hook``.
        seed: of the noise and of the final classifier.
        draws: how many times features are synthesised and the final classifier is trained.
        distiller: teacher and student; needed unless ``final_classifier`` is ``host``.
        final_classifier: see :class:`~d3_plugin.D3Settings`.
        ensemble_weight, seen_offset: see there; no effect on the host's classifier alone.

    Returns:
        Metrics as means over the draws, and the scores they are computed from.

    Raises:
        HostError: the host returns features or scores of a wrong shape.
    """
    data = host.data
    rows = torch.cat([data.test_seen_features, data.test_unseen_features])
    labels = torch.cat([data.test_seen_labels, data.test_unseen_labels]).cpu().numpy()
    host_scores: list[Tensor] = []
    student_scores: Tensor | None = None
    prior = teacher_score = teacher_auroc = None
    with RandomStream(seed, host.device, "evaluation"), eval_mode(host.modules), torch.no_grad():
        for _ in range(draws if final_classifier != "student" else 0):
            scorer, prior = _train_final_classifier(host, hooks)
            score = scorer(hooks.d3_transform_features(host=host, features=rows))
            host_scores.append(_checked(host, score, len(rows)))
        if distiller is not None:
            if final_classifier != "host":
                student_scores = distiller.student(rows)[0].log_softmax(dim=1)
            o2dbd = distiller.o2dbd
            score = id_score(distiller.teacher(rows)[0], o2dbd.score, o2dbd.score_temperature)
            teacher_score = score.cpu().double().numpy()
            seen_rows = len(data.test_seen_labels)
            teacher_auroc = ood_auroc(teacher_score[:seen_rows], teacher_score[seen_rows:])
        combined = final_scores(
            host_scores,
            student_scores,
            data.seen_classes,
            ensemble_weight=ensemble_weight,
            seen_offset=seen_offset,
        )
    scores = _array(combined)
    return Evaluation(
        metrics=_metrics(scores, labels, data.seen_classes, data.unseen_classes),
        scores=scores,
        labels=labels,
        host_scores=_array(torch.stack(host_scores)) if host_scores else None,
        prior=prior,
        teacher_score=teacher_score,
        teacher_auroc=teacher_auroc,
        student_scores=None if student_scores is None else _array(student_scores),
    )


def rescored(
    evaluation: Evaluation,
    seen_classes: Tensor,
    unseen_classes: Tensor,
    *,
    ensemble_weight: float,
    seen_offset: float,
) -> Evaluation:
    """Combines the same host and student with another weight and offset, without training.

    Args:
        evaluation: an evaluation of the student, or of both.
        seen_classes, unseen_classes: int64 class ids.
        ensemble_weight, seen_offset: see :class:`~d3_plugin.D3Settings`.

    Raises:
        InputError: the evaluation has no scores of a student.
    """
    host, student = evaluation.host_scores, evaluation.student_scores
    if student is None:
        raise InputError("rescored: this evaluation has no scores of a student")
    scores = final_scores(
        [] if host is None else list(torch.from_numpy(host)),
        torch.from_numpy(student),
        seen_classes,
        ensemble_weight=ensemble_weight,
        seen_offset=seen_offset,
    ).numpy()
    metrics = _metrics(scores, evaluation.labels, seen_classes, unseen_classes)
    return replace(evaluation, scores=scores, metrics=metrics)


def final_scores(
    host_scores: Sequence[Tensor],
    student_scores: Tensor | None,
    seen_classes: Tensor,
    *,
    ensemble_weight: float,
    seen_offset: float,
) -> Tensor:
    """A weighted product of experts (Hinton, 2002), with calibrated stacking (Chao et al., 2016).

    Args:
        host_scores: (N, C) scores of the host's classifier for each draw; may be empty.
        student_scores: (N, C) log-probabilities of the student; without them the host's scores are
            returned as they are.
        seen_classes: (S,) int64 class ids.
        ensemble_weight: of the student's log-probabilities when added to the host's.
        seen_offset: ``seen_offset * log(S)`` is subtracted from the scores of seen classes.

    Returns:
        (draws, N, C); (1, N, C) for the student alone.
    """
    if student_scores is None:
        return torch.stack(list(host_scores))
    if host_scores:
        scores = torch.stack(list(host_scores)).log_softmax(dim=2)
    else:
        scores = student_scores[None].clone()
    scores[:, :, seen_classes] -= seen_offset * math.log(len(seen_classes))
    return scores + ensemble_weight * student_scores if host_scores else scores


def _array(scores: Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = scores.float().cpu().numpy()
    return array


def _metrics(
    scores: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], seen: Tensor, unseen: Tensor
) -> GZSLMetrics:
    classes = seen.cpu().numpy(), unseen.cpu().numpy()
    return mean_metrics([gzsl_metrics(s.astype(np.float64), labels, *classes) for s in scores])


def _train_final_classifier(
    host: Host, hooks: pluggy.HookRelay
) -> tuple[Scorer, npt.NDArray[np.float64]]:
    """The classifier, and the share of each class in its training rows."""
    data = host.data
    classes = data.unseen_classes.repeat_interleave(host.synthetic_per_class)
    synthetic = synthesize(host, hooks, classes, differentiable=False)
    features = torch.cat([data.train_features, synthetic.to(data.train_features)])
    labels = torch.cat([data.train_labels, classes])
    features = hooks.d3_transform_features(host=host, features=features)
    with torch.enable_grad():  # evaluation runs without gradient, but training needs it
        scorer: Scorer = hooks.d3_train_classifier(
            host=host, features=features, labels=labels, num_classes=data.num_classes
        )
    # Apple GPUs have no float64.
    prior = labels.bincount(minlength=data.num_classes).cpu().double() / len(labels)
    return scorer, prior.numpy()


def _checked(host: Host, score: Tensor, rows: int) -> Tensor:
    expected = (rows, host.data.num_classes)
    if score.shape != expected:
        source = "attach(train_classifier=...) or d3_train_classifier"
        raise HostError(
            f"the classifier that {source} returns must score {expected}, got {tuple(score.shape)}"
        )
    return score
