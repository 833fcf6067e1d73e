"""One draw of the final classifier: trained on real seen and synthetic unseen rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pluggy
import torch
from torch import Tensor

from d3_plugin.checks import describe
from d3_plugin.distillation.distiller import Distiller
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.errors import HostError
from d3_plugin.evaluation.softmax import DefaultClassifier, train_default
from d3_plugin.hooks.user_functions import users_of
from d3_plugin.hosts.host import Host, Scorer
from d3_plugin.hosts.module_state import train_mode
from d3_plugin.hosts.synthesis import synthesize

Source = Literal["default", "argument", "plugin"]


class HostScorer:
    """The host's final classifier on features: (N, D) -> (N, C) scores.

    Functions of users may work in place and keep what they get: they get copies.

    Args:
        host: in eval mode; its generator is used as it stands.
        hooks: ``manager.hook``.

    Attributes:
        prior: (C,) share of each class in the training rows.
        source: whose the classifier is.
        name: what it is, in words.
        gives_probabilities: whether the logarithm is taken for scores; None before the first call.

    Raises:
        HostError: synthetic rows, transformed ones or scores are not what they should be; names
            the function that returned them.
    """

    def __init__(self, host: Host, hooks: pluggy.HookRelay) -> None:
        self._host, self._hooks = host, hooks
        data, own = host.data, users_of(hooks).named("train_classifier")
        classes = data.unseen_classes.repeat_interleave(host.synthetic_per_class)
        with train_mode([host.generator] if host.from_noise.form().training else []):
            synthetic = synthesize(host, hooks, classes.clone(), differentiable=False)
        _check_finite("the generator", synthetic, "synthetic rows")
        features = torch.cat([data.train_features, synthetic.to(data.train_features)])
        labels = torch.cat([data.train_labels, classes])
        # Apple GPUs have no float64.
        prior = labels.bincount(minlength=data.num_classes).cpu().double() / len(labels)
        self.prior: npt.NDArray[np.float64] = prior.numpy()
        features = self._transformed(features)
        _check_finite(self._transform_name(), features, "training rows")
        width = features.shape[1]
        with torch.enable_grad():  # evaluation runs without gradient, but training needs it
            scorer: Scorer | None = hooks.d3_train_classifier(
                host=host, features=features, labels=labels, num_classes=data.num_classes
            )
            if scorer is None:
                scorer = train_default(features, labels, data.num_classes)
        self.source: Source = "argument" if own else "plugin"
        self.name = own or f"classifier of {host.name}"
        if isinstance(scorer, DefaultClassifier):
            self.source, self.name = "default", "default softmax of d3_plugin"
        if not callable(scorer):
            raise HostError(
                f"{self.name} must return a function from rows (M, {width}) to scores "
                f"(M, {data.num_classes}), got {describe(scorer)}"
            )
        self._scorer = scorer
        self.gives_probabilities: bool | None = None

    def __call__(self, rows: Tensor) -> Tensor:
        scores = self._scores(self._transformed(rows.clone()))
        if self.gives_probabilities is None:
            self.gives_probabilities = _are_probabilities(scores)
        if self.gives_probabilities:
            scores = scores.clamp_min(torch.finfo(scores.dtype).tiny).log()
        return scores

    def _transformed(self, rows: Tensor) -> Tensor:
        number = rows.shape[0]
        features = self._hooks.d3_transform_features(host=self._host, features=rows)
        if features is None:
            return rows
        return _as_matrix(self._transform_name(), features, rows.device, number)

    def _transform_name(self) -> str:
        own = users_of(self._hooks).named("transform_features")
        return own or f"d3_transform_features of {self._host.name}"

    def _scores(self, features: Tensor) -> Tensor:
        own = self.name
        if self.source == "plugin":
            own = f"d3_train_classifier of {self._host.name}"
        name, width = f"the function that {own} returns", self._host.data.num_classes
        answer, number = self._scorer(features.clone()), features.shape[0]
        scores = _as_matrix(name, answer, features.device, number, width)
        return scores.to(torch.float32, copy=True)


def _as_matrix(
    name: str, answer: Any, device: torch.device, number: int, width: int | None = None
) -> Tensor:
    """What a user's function made of ``number`` rows, as a tensor; NumPy arrays are taken."""
    if isinstance(answer, np.ndarray) and answer.dtype.kind == "f":
        answer = torch.from_numpy(answer.astype(np.float32)).to(device)
    if (
        isinstance(answer, Tensor)
        and answer.layout == torch.strided
        and answer.is_floating_point()
        and answer.device == device
        and answer.ndim == 2
        and answer.shape[0] == number  # len() would fix the number of rows in an export
        and width in (None, answer.shape[1])
    ):
        return answer
    raise HostError(
        f"{name} must return a floating row for each row, on {device}: "
        f"({number}, {width or 'width'}), got {describe(answer).removeprefix('a tensor ')}"
    )


def _check_finite(name: str, values: Tensor, of: str) -> None:
    bad = int((~values.isfinite()).any(dim=1).sum())
    if bad:
        raise HostError(f"{name} gives NaN or Inf for {bad} of {len(values)} {of}")


def _are_probabilities(scores: Tensor) -> bool:
    sums = scores.sum(dim=1)
    # Half precision rounds a sum by less than this; logits never sum to 1 in every row.
    return bool(((scores >= 0) & (scores <= 1)).all() and ((sums - 1).abs() < 2e-3).all())


@dataclass(frozen=True, eq=False)
class FinalClassifier:
    """The host's classifier, the student, or both: (N, D) -> (N, C). The host is in eval mode.

    Attributes:
        host: its classifier; None if the student classifies alone.
        student: that of D³; None if the host classifies alone.
        seen_classes: (S,) class ids.
        settings: ``ensemble_weight`` and ``seen_offset`` are used.
    """

    host: HostScorer | None
    student: Distiller | None
    seen_classes: Tensor
    settings: D3Settings

    @property
    def name(self) -> str:
        student = "student of D³"
        if self.host is None:
            return student
        weight = self.settings.ensemble_weight
        return f"{self.host.name} + {weight:g} x {student}" if self.student else self.host.name

    def parts(self, rows: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Scores of the host's classifier, and log-probabilities of the student."""
        of_host = None if self.host is None else self.host(rows)
        of_student = None
        if self.student is not None:
            of_student = self.student.student(rows)[0].log_softmax(dim=1)
        return of_host, of_student

    def checked_parts(self, rows: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """:meth:`parts`.

        Raises:
            HostError: one of them has NaN or Inf; says which.
        """
        of_host, of_student = self.parts(rows)
        if self.host is not None and of_host is not None:
            _check_finite(self.host.name, of_host, "test rows")
        if of_student is not None:
            _check_finite("D³'s student", of_student, "test rows")
        return of_host, of_student

    def combined(self, of_host: Tensor | None, of_student: Tensor | None) -> Tensor:
        """(N, C) of both :meth:`parts`."""
        return final_scores(
            of_host,
            of_student,
            self.seen_classes,
            self.settings.ensemble_weight,
            self.settings.seen_offset,
        )

    def __call__(self, rows: Tensor) -> Tensor:
        return self.combined(*self.parts(rows))


def final_scores(
    host_scores: Tensor | None,
    student_scores: Tensor | None,
    seen_classes: Tensor,
    ensemble_weight: float,
    seen_offset: float,
) -> Tensor:
    """A weighted product of experts (Hinton, 2002), with calibrated stacking (Chao et al., 2016).

    Args:
        host_scores: (N, C) or (draws, N, C), of the host's classifier; None for the student alone.
        student_scores: (N, C) log-probabilities of the student; without them the host's scores are
            returned as they are.
        seen_classes: (S,) int64 class ids.
        ensemble_weight: of the student's log-probabilities when added to the host's.
        seen_offset: ``seen_offset * log(S)`` is subtracted from the scores of seen classes.

    Returns:
        As ``host_scores``, or else as ``student_scores``.
    """
    if student_scores is None:
        return cast(Tensor, host_scores)  # one of the two is given
    scores = student_scores.clone() if host_scores is None else host_scores.log_softmax(dim=-1)
    scores[..., seen_classes] -= seen_offset * math.log(len(seen_classes))
    return scores if host_scores is None else scores + ensemble_weight * student_scores
