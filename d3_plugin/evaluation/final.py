"""One draw of the final classifier: trained on real seen and synthetic unseen rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pluggy
import torch
from torch import Tensor

from d3_plugin.distillation.distiller import Distiller
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.errors import HostError
from d3_plugin.evaluation.softmax import DefaultClassifier, train_default
from d3_plugin.hooks.user_functions import UserHooks
from d3_plugin.hosts.host import Host, Scorer
from d3_plugin.hosts.synthesis import synthesize

Source = Literal["default", "argument", "plugin"]


@dataclass(frozen=True, eq=False)
class Final:
    """The final classifier beside its host, which must be in eval mode: (N, D) -> (N, C).

    Attributes:
        host, hooks: whose features are transformed.
        scorer: the host's, on transformed features; None if the student classifies alone.
        student: that of D³; None if the host classifies alone.
        ensemble_weight, seen_offset: see :class:`~d3_plugin.D3Settings`.
        prior: (C,) share of each class in the training rows; None without ``scorer``.
    """

    host: Host
    hooks: pluggy.HookRelay
    scorer: Scorer | None
    student: Distiller | None
    ensemble_weight: float
    seen_offset: float
    prior: npt.NDArray[np.float64] | None

    @property
    def origin(self) -> tuple[Source, str]:
        """Whose the scorer is, and what it is in words."""
        if isinstance(self.scorer, DefaultClassifier):
            return "default", "default softmax of d3_plugin"
        for implementation in self.hooks.d3_train_classifier.get_hookimpls():
            plugin = implementation.plugin
            if isinstance(plugin, UserHooks) and (given := plugin.train_classifier) is not None:
                name = getattr(given, "__name__", type(given).__name__)
                return "argument", f"train_classifier={name}"
        return "plugin", f"classifier of {self.host.name}"

    @property
    def advice(self) -> str:
        return "; train_classifier= scores your own" if self.origin[0] == "default" else ""

    @property
    def name(self) -> str:
        if self.student is None:
            return self.origin[1]
        student = "student of D³"
        if self.scorer is None:
            return student
        return f"{self.origin[1]} + {self.ensemble_weight:g} x {student}"

    def parts(self, rows: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Scores of the host's classifier, and log-probabilities of the student.

        Raises:
            HostError: the host's have another shape.
        """
        of_host = of_student = None
        if self.scorer is not None:
            features = self.hooks.d3_transform_features(host=self.host, features=rows)
            features = rows if features is None else features
            of_host = self.scorer(features)
            expected = (rows.shape[0], self.host.data.num_classes)
            if of_host.shape != expected:
                source = "attach(train_classifier=...) or d3_train_classifier"
                raise HostError(
                    f"the classifier that {source} returns must score {expected}, got "
                    f"{tuple(of_host.shape)}"
                )
        if self.student is not None:
            of_student = self.student.student(rows)[0].log_softmax(dim=1)
        return of_host, of_student

    def combined(self, of_host: Tensor | None, of_student: Tensor | None) -> Tensor:
        """(N, C) of both :meth:`parts`."""
        hosts, seen = [] if of_host is None else [of_host], self.host.data.seen_classes
        return final_scores(hosts, of_student, seen, self.ensemble_weight, self.seen_offset)[0]

    def __call__(self, rows: Tensor) -> Tensor:
        return self.combined(*self.parts(rows))


def train_final(
    host: Host,
    hooks: pluggy.HookRelay,
    distiller: Distiller | None,
    settings: D3Settings,
) -> Final:
    """Synthesise features and train the host's classifier, unless the student needs none.

    Args:
        host: in eval mode; its generator is used as it stands.
        hooks: ``manager.hook``.
        distiller: needed unless ``final_classifier`` is ``host``.
        settings: which classifier, and how it is combined.

    Raises:
        HostError: the host returns features of a wrong shape.
    """
    scorer = prior = None
    if settings.final_classifier != "student":
        scorer, prior = _train_scorer(host, hooks)
    student = None if settings.final_classifier == "host" else distiller
    weights = settings.ensemble_weight, settings.seen_offset
    return Final(host, hooks, scorer, student, *weights, prior)


def _train_scorer(host: Host, hooks: pluggy.HookRelay) -> tuple[Scorer, npt.NDArray[np.float64]]:
    """The classifier, and the share of each class in its training rows."""
    data = host.data
    classes = data.unseen_classes.repeat_interleave(host.synthetic_per_class)
    synthetic = synthesize(host, hooks, classes, differentiable=False)
    features = torch.cat([data.train_features, synthetic.to(data.train_features)])
    labels = torch.cat([data.train_labels, classes])
    transformed = hooks.d3_transform_features(host=host, features=features)
    features = features if transformed is None else transformed
    with torch.enable_grad():  # evaluation runs without gradient, but training needs it
        scorer: Scorer | None = hooks.d3_train_classifier(
            host=host, features=features, labels=labels, num_classes=data.num_classes
        )
        if scorer is None:
            scorer = train_default(features, labels, data.num_classes)
    # Apple GPUs have no float64.
    prior = labels.bincount(minlength=data.num_classes).cpu().double() / len(labels)
    return scorer, prior.numpy()


def final_scores(
    host_scores: Sequence[Tensor],
    student_scores: Tensor | None,
    seen_classes: Tensor,
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
