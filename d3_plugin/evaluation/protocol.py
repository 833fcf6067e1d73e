"""How a host, with or without D³, is scored on the test rows."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import pluggy
import torch
from torch import Tensor

from d3_plugin.distillation.distiller import Distiller
from d3_plugin.distillation.settings import FinalClassifier
from d3_plugin.errors import HostError, InputError
from d3_plugin.evaluation.final_scores import final_scores
from d3_plugin.evaluation.metrics import GZSLMetrics, gzsl_metrics, ood_auroc
from d3_plugin.functional import id_score
from d3_plugin.hosts.host import Host, Scorer
from d3_plugin.hosts.isolation import RandomStream, eval_mode
from d3_plugin.hosts.synthesis import synthesize


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One classifier, or its draws, on the test rows (seen rows first, then unseen ones).

    Attributes:
        metrics: means over the draws.
        scores: (draws, N, C) float32 scores over all classes: as they come from the host's
            classifier, or log-probabilities of the student or of the weighted sum, less the offset.
        host_scores: the same of the host's final classifier alone; equal to ``scores`` without D³,
            None where only the student was asked.
        student_scores: (N, C) log-probabilities of the student; None where only the host was asked.
        labels: (N,) class ids.
        prior: (C,) share of each class in the final classifier's training rows; None where the
            classifier was the student's.
        teacher_score: (N,) in-distribution score of the teacher, higher = more like seen data;
            None without D³.
        teacher_auroc: how well that score tells seen from unseen test rows.
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
    """Field by field; note that the mean of H is not the H of the means."""
    return GZSLMetrics(
        **{
            f.name: float(np.mean([getattr(m, f.name) for m in metrics]))
            for f in fields(metrics[0])
        }
    )


def evaluate(
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

    The host is put in eval mode for it and back, and no global random stream moves; the same seed
    gives the same noise with and without D³.

    Args:
        host: the host; its generator is used as it stands.
        hooks: ``manager.hook``.
        seed: of the noise and of the final classifier.
        draws: how many times to synthesise features and train the final classifier.
        distiller: teacher and student, if D³ is attached.
        final_classifier: see :class:`~d3_plugin.D3Settings`; all but ``host`` need a
            distiller.
        ensemble_weight, seen_offset: see the same; without effect where the host stands alone.

    Returns:
        Metrics as means over the draws, and what they are of.

    Raises:
        InputError: draws below 1, or no distiller for the student's classifier.
        HostError: features or scores of another shape come back from the host.
    """
    data = host.data
    rows = torch.cat([data.test_seen_features, data.test_unseen_features])
    labels = torch.cat([data.test_seen_labels, data.test_unseen_labels]).cpu().numpy()
    host_scores: Tensor | None = None
    prior = None
    isolated = RandomStream(seed, host.device, "evaluation")
    with isolated, eval_mode(host.modules), torch.no_grad():
        if final_classifier != "student":
            each = []
            for _ in range(draws):
                scorer, prior = _train_final_classifier(host, hooks)
                score = scorer(_transform(host, hooks, rows))
                each.append(_checked(host, score, len(rows)))
            host_scores = torch.stack(each)
        student_scores = None
        if distiller is not None and final_classifier != "host":
            student_scores = distiller.student(rows)[0].log_softmax(dim=1)
        scores = final_scores(
            host_scores,
            student_scores,
            data.seen_classes,
            ensemble_weight=ensemble_weight,
            seen_offset=seen_offset,
        )
        teacher = _teacher_score(distiller, rows)
    as_array = _array(scores)
    seen_rows = len(data.test_seen_labels)
    return Evaluation(
        _metrics(as_array, labels, data.seen_classes, data.unseen_classes),
        as_array,
        labels,
        host_scores=None if host_scores is None else _array(host_scores),
        student_scores=None if student_scores is None else _array(student_scores),
        prior=prior,
        teacher_score=teacher,
        teacher_auroc=None
        if teacher is None
        else ood_auroc(teacher[:seen_rows], teacher[seen_rows:]),
    )


def rescored(
    evaluation: Evaluation,
    seen_classes: Tensor,
    unseen_classes: Tensor,
    *,
    ensemble_weight: float,
    seen_offset: float,
) -> Evaluation:
    """The same host and student, combined with another weight and offset; nothing is trained.

    Args:
        evaluation: what :func:`evaluate` returned of the student, or of both.
        seen_classes, unseen_classes: int64 class ids.
        ensemble_weight, seen_offset: see :class:`~d3_plugin.distillation.settings.D3Settings`.

    Raises:
        InputError: there are no scores of a student.
    """
    if evaluation.student_scores is None:
        raise InputError("rescored: this evaluation has no scores of a student")
    host = evaluation.host_scores
    scores = final_scores(
        None if host is None else torch.from_numpy(host),
        torch.from_numpy(evaluation.student_scores),
        seen_classes,
        ensemble_weight=ensemble_weight,
        seen_offset=seen_offset,
    ).numpy()
    metrics = _metrics(scores, evaluation.labels, seen_classes, unseen_classes)
    return replace(evaluation, scores=scores, metrics=metrics)


def _array(scores: Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = scores.float().cpu().numpy()
    return array


def _metrics(
    scores: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], seen: Tensor, unseen: Tensor
) -> GZSLMetrics:
    classes = seen.cpu().numpy(), unseen.cpu().numpy()
    return mean_metrics([gzsl_metrics(s.astype(np.float64), labels, *classes) for s in scores])


def _teacher_score(distiller: Distiller | None, rows: Tensor) -> npt.NDArray[np.float64] | None:
    if distiller is None:
        return None
    o2dbd = distiller.o2dbd
    score = id_score(distiller.teacher(rows)[0], o2dbd.score, o2dbd.score_temperature)
    return score.double().cpu().numpy()


def _train_final_classifier(
    host: Host, hooks: pluggy.HookRelay
) -> tuple[Scorer, npt.NDArray[np.float64]]:
    data = host.data
    classes = data.unseen_classes.repeat_interleave(host.synthetic_per_class)
    synthetic = synthesize(host, hooks, classes, differentiable=False)
    features = torch.cat([data.train_features, synthetic.to(data.train_features)])
    labels = torch.cat([data.train_labels, classes])
    features = _transform(host, hooks, features)
    with torch.enable_grad():  # evaluation as a whole runs without gradient, training must not
        scorer: Scorer = hooks.d3_train_classifier(
            host=host, features=features, labels=labels, num_classes=data.num_classes
        )
    prior = labels.bincount(minlength=data.num_classes).double() / len(labels)
    return scorer, prior.cpu().numpy()


def _transform(host: Host, hooks: pluggy.HookRelay, features: Tensor) -> Tensor:
    transformed: Tensor = hooks.d3_transform_features(host=host, features=features)
    return transformed


def _checked(host: Host, score: Tensor, rows: int) -> Tensor:
    expected = (rows, host.data.num_classes)
    if score.shape != expected:
        source = "attach(train_classifier=...) or d3_train_classifier"
        raise HostError(
            f"the classifier that {source} returns must score {expected}, got {tuple(score.shape)}"
        )
    return score
