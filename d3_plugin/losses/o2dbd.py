"""O²DBD: out-of-distribution batch distillation."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from d3_plugin.checks import (
    check_choice,
    check_flags,
    check_label_range,
    check_labels,
    check_matrices,
    check_positive,
    check_seen_classes,
    check_whole,
    is_number,
)
from d3_plugin.distributed import gather_rows
from d3_plugin.errors import InputError
from d3_plugin.functional import id_confidence, id_score, relation_loss
from d3_plugin.functional.precision import autocast_off, full_precision
from d3_plugin.functional.relations import RELATION_FORMS, RelationForm
from d3_plugin.functional.scores import SCORE_KINDS, ScoreKind

RelationTarget = Literal["domain", "class"]


class O2DBDLoss(nn.Module):
    r"""Teaches the student, over a batch of seen and synthetic unseen rows, which rows are unseen.

    The teacher's in-distribution score becomes a confidence
    :math:`\tilde h = [c, 1 - c],\ c = \sigma(w (s + b))` with learnable w, b; the student's logits
    become :math:`\hat h = \mathrm{softmax}(H \log \mathrm{softmax}(\hat v))` with a learnable
    linear H to two outputs. The loss is :func:`~d3_plugin.functional.relation_loss` between
    :math:`\hat h` (rows) and :math:`\tilde h` (columns) of *all* rows of the batch.

    Source: D3GZSL (AAAI 2024), O²DBD. The default corrects the released code: scores are
    standardised (see :meth:`fit_score`), the confidence is not pushed through a second softmax,
    pairs belong together when both are seen or both unseen, and cosines of probabilities are
    used as they are instead of being squeezed into [1/2, 1]. :meth:`released` gives that code.

    Args:
        num_classes: C, the width of the student's logits.
        seen_classes: (S,) integer, which of them are seen.
        score, score_temperature: of :func:`~d3_plugin.functional.id_score`.
        target: ``domain`` (both seen or both unseen) or ``class`` (the same class).
        relation, relation_temperature: form and temperature of
            :func:`~d3_plugin.functional.relation_loss`.
        rescale: use (1 + cosine) / 2 instead of the cosine in the BCE forms.
        softmax_confidence: push :math:`\tilde h` through a softmax, as the released code does.
        initial_weight, initial_offset: of w and b. With a standardised score the default offset 1
            makes an average seen row 73 % and one two deviations below it 27 % confident.
        gather: relations over the rows of all processes, as in
            :class:`~d3_plugin.losses.ID2SDLoss`; the two pairs of a row travel, not its logits.

    Raises:
        InputError: an option outside its range.
    """

    score_mean: Tensor
    score_std: Tensor
    is_seen: Tensor

    def __init__(
        self,
        num_classes: int,
        seen_classes: Tensor,
        *,
        score: ScoreKind = "max_softmax",
        score_temperature: float = 1.0,
        target: RelationTarget = "domain",
        relation: RelationForm = "bce",
        relation_temperature: float = 0.1,
        rescale: bool = False,
        softmax_confidence: bool = False,
        initial_weight: float = 1.0,
        initial_offset: float = 1.0,
        gather: bool = False,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_choice(name, "score", score, SCORE_KINDS)
        check_choice(name, "target", target, get_args(RelationTarget))
        check_choice(name, "relation", relation, RELATION_FORMS)
        check_positive(
            name,
            num_classes=num_classes,
            score_temperature=score_temperature,
            relation_temperature=relation_temperature,
        )
        check_whole(name, num_classes=num_classes)
        check_seen_classes(name, seen_classes, num_classes)
        check_flags(name, rescale=rescale, softmax_confidence=softmax_confidence, gather=gather)
        if not (is_number(initial_weight) and is_number(initial_offset)):
            raise InputError(
                f"{name}: initial_weight and initial_offset must be numbers, got "
                f"{initial_weight!r} and {initial_offset!r}"
            )
        self.score, self.score_temperature = score, score_temperature
        self.target, self.relation = target, relation
        self.relation_temperature, self.rescale = relation_temperature, rescale
        self.softmax_confidence = softmax_confidence
        self.gather = gather
        self.confidence_weight = nn.Parameter(torch.tensor([float(initial_weight)]))
        self.confidence_offset = nn.Parameter(torch.tensor([float(initial_offset)]))
        self.head = nn.Linear(num_classes, 2)
        # 0 and 1 until fit_score: scores are used as they are.
        self.register_buffer("score_mean", torch.zeros(()))
        self.register_buffer("score_std", torch.ones(()))
        self.num_seen = len(seen_classes)
        is_seen = torch.zeros(num_classes, dtype=torch.bool, device=seen_classes.device)
        is_seen[seen_classes.long()] = True
        self.register_buffer("is_seen", is_seen, persistent=False)

    @classmethod
    def released(cls, num_classes: int, seen_classes: Tensor, *, gather: bool = False) -> O2DBDLoss:
        """The authors' released formulas; do not call :meth:`fit_score` on it."""
        return cls(
            num_classes,
            seen_classes,
            score="log_max_softmax",
            target="class",
            relation="bce_with_logits",
            rescale=True,
            softmax_confidence=True,
            initial_offset=0.0,
            gather=gather,
        )

    @torch.no_grad()
    def fit_score(self, teacher_logits: Tensor) -> None:
        """Standardise the score from here on by its mean and deviation over seen training rows.

        Args:
            teacher_logits: (N, S) of the seen training rows.

        Raises:
            InputError: a wrong shape, or fewer than two rows.
        """
        score = id_score(teacher_logits, self.score, self.score_temperature)
        if len(score) < 2:
            raise InputError(f"O2DBDLoss.fit_score needs at least 2 rows, got {len(score)}")
        self.score_mean.copy_(score.mean())
        self.score_std.copy_(score.std().clamp_min(1e-6))

    def confidence(self, teacher_logits: Tensor) -> Tensor:
        r""":math:`\tilde h` (N, 2) of each row, from logits (N, S); column 0 is in-distribution."""
        score = id_score(teacher_logits, self.score, self.score_temperature)
        score = (score - self.score_mean) / self.score_std
        pair = id_confidence(score, self.confidence_weight, self.confidence_offset)
        return pair.softmax(dim=1) if self.softmax_confidence else pair

    def student_pair(self, student_logits: Tensor) -> Tensor:
        r""":math:`\hat h` (N, 2) of each row, from logits (N, C).

        Its columns get their meaning from the loss.
        """
        with autocast_off(student_logits):
            (logits,) = full_precision(student_logits)
            pair: Tensor = self.head(logits.log_softmax(dim=1).to(self.head.weight.dtype))
            return pair.softmax(dim=1)

    def forward(self, teacher_logits: Tensor, student_logits: Tensor, labels: Tensor) -> Tensor:
        """The loss over all rows of a batch, seen and synthetic unseen.

        Args:
            teacher_logits: (N, S).
            student_logits: (N, C).
            labels: (N,) integer class ids in 0..C-1; they say which rows are unseen.

        Returns:
            0-dim tensor, at least 0; 0 for no rows.

        Raises:
            InputError: shapes or dtypes that disagree.
        """
        name = type(self).__name__
        check_matrices(name, teacher_logits=teacher_logits, student_logits=student_logits)
        check_labels(name, student_logits, labels)
        check_label_range(name, labels, self.head.in_features)
        widths = teacher_logits.shape[1], student_logits.shape[1]
        expected = self.num_seen, self.head.in_features
        if widths != expected:
            raise InputError(
                f"{name}: teacher and student logits must be {expected[0]} and {expected[1]} wide "
                f"(seen and all classes), got {widths[0]} and {widths[1]}"
            )
        student, teacher = self.student_pair(student_logits), self.confidence(teacher_logits)
        if self.gather:
            student, teacher, labels = gather_rows(student, teacher, labels)
        labels = labels.long()
        groups = self.is_seen[labels] if self.target == "domain" else labels
        return relation_loss(
            student,
            teacher,
            groups[:, None] == groups[None, :],
            self.relation,
            temperature=self.relation_temperature,
            rescale=self.rescale,
        )

    def extra_repr(self) -> str:
        return (
            f"score={self.score!r}, score_temperature={self.score_temperature}, "
            f"target={self.target!r}, relation={self.relation!r}, "
            f"relation_temperature={self.relation_temperature}, rescale={self.rescale}, "
            f"softmax_confidence={self.softmax_confidence}"
            f"{', gather=True' if self.gather else ''}"
        )
