"""O²DBD: out-of-distribution batch distillation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from d3_plugin.checks import Count, Positive, checked
from d3_plugin.distributed import gather_rows
from d3_plugin.errors import InputError
from d3_plugin.functional import id_confidence, id_score
from d3_plugin.functional.inputs import check_labels, check_matrices, check_seen_classes
from d3_plugin.functional.precision import autocast_off, full_precision
from d3_plugin.functional.relations import RelationForm, loss_of_cosines
from d3_plugin.functional.scores import ScoreKind

RelationTarget = Literal["domain", "class"]


class O2DBDLoss(nn.Module):
    r"""Teaches the student which rows of a batch are seen and which are synthetic unseen ones.

    The teacher's in-distribution score becomes a confidence
    :math:`\tilde h = [c, 1 - c],\ c = \sigma(w (s + b))` with learnable w, b; the student's logits
    become :math:`\hat h = \mathrm{softmax}(H \log \mathrm{softmax}(\hat v))` with a learnable
    linear H to two outputs. The loss is :func:`~d3_plugin.functional.relation_loss` between
    :math:`\hat h` (rows) and :math:`\tilde h` (columns) of *all* rows of the batch.

    Source: D3GZSL (AAAI 2024), O²DBD. The default corrects the released code: scores are
    standardised (see :meth:`fit_score`), the confidence gets no second softmax, pairs belong
    together if both are seen or both unseen, and cosines of probabilities are not rescaled to
    [1/2, 1]. :meth:`released` reproduces that code.

    Args:
        num_classes: C, the width of the student's logits.
        seen_classes: (S,) integer, the seen ones among them.
        score, score_temperature: of :func:`~d3_plugin.functional.id_score`.
        target: ``domain`` (both seen or both unseen) or ``class`` (the same class).
        relation, relation_temperature: form and temperature of
            :func:`~d3_plugin.functional.relation_loss`.
        rescale: use (1 + cosine) / 2 instead of the cosine in the BCE forms.
        softmax_confidence: apply a softmax to :math:`\tilde h`, as the released code does.
        initial_weight, initial_offset: start of w and b. With a standardised score and offset 1 the
            confidence is 73 % for an average seen row, and 27 % two deviations below it.
        gather: use the rows of all processes, as in :class:`~d3_plugin.losses.ID2SDLoss`; the two
            pairs of each row are sent, not its logits.

    Raises:
        InputError: an option outside its range.
    """

    score_mean: Tensor
    score_std: Tensor
    is_seen: Tensor
    score: ScoreKind
    relation: RelationForm
    __call__: Callable[..., Tensor]  # for editors: nn.Module says Any

    @checked
    def __init__(
        self,
        num_classes: Count,
        seen_classes: Tensor,
        *,
        score: ScoreKind = "max_softmax",
        score_temperature: Positive = 1.0,
        target: RelationTarget = "domain",
        relation: RelationForm = "bce",
        relation_temperature: Positive = 0.1,
        rescale: bool = False,
        softmax_confidence: bool = False,
        initial_weight: float = 1.0,
        initial_offset: float = 1.0,
        gather: bool = False,
    ) -> None:
        check_seen_classes("O2DBDLoss", seen_classes, num_classes)
        super().__init__()
        self.score, self.score_temperature = score, score_temperature
        self.target, self.relation = target, relation
        self.relation_temperature, self.rescale = relation_temperature, rescale
        self.softmax_confidence = softmax_confidence
        self.gather = gather
        self.confidence_weight = nn.Parameter(torch.tensor([float(initial_weight)]))
        self.confidence_offset = nn.Parameter(torch.tensor([float(initial_offset)]))
        self.head = nn.Linear(num_classes, 2)
        # Without fit_score, scores are not standardised.
        self.register_buffer("score_mean", torch.zeros(()))
        self.register_buffer("score_std", torch.ones(()))
        self.widths = len(seen_classes), num_classes  # of the teacher's and the student's logits
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
        """Standardise scores from now on by mean and deviation over the seen training rows.

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
        r""":math:`\tilde h` (N, 2) from logits (N, S); column 0 is in-distribution."""
        score = id_score(teacher_logits, self.score, self.score_temperature)
        score = (score - self.score_mean) / self.score_std
        pair = id_confidence(score, self.confidence_weight, self.confidence_offset)
        return pair.softmax(dim=1) if self.softmax_confidence else pair

    def student_pair(self, student_logits: Tensor) -> Tensor:
        r""":math:`\hat h` (N, 2) from logits (N, C); the loss gives its columns their meaning."""
        with autocast_off(student_logits):
            (logits,) = full_precision(student_logits)
            pair: Tensor = self.head(logits.log_softmax(dim=1).to(self.head.weight.dtype))
            return pair.softmax(dim=1)

    def terms(
        self, teacher_logits: Tensor, student_logits: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """The loss as ``{"od": loss}``; without checks.

        Args: as in :meth:`forward`, ``labels`` int64.
        """
        student, teacher = self.student_pair(student_logits), self.confidence(teacher_logits)
        if self.gather:
            student, teacher, labels = gather_rows(student, teacher, labels)
        groups = self.is_seen[labels] if self.target == "domain" else labels
        same = groups[:, None] == groups
        with autocast_off(student):
            # Two probabilities: their length is neither 0 nor too large for float32.
            rows, columns = (
                pair / torch.linalg.vector_norm(pair, dim=1, keepdim=True)
                for pair in full_precision(student, teacher)
            )
            if self.relation == "contrastive":
                rows = rows / self.relation_temperature
            cosine = rows @ columns.T
        return {"od": loss_of_cosines(cosine, same, self.relation, rescale=self.rescale)}

    def forward(self, teacher_logits: Tensor, student_logits: Tensor, labels: Tensor) -> Tensor:
        """The loss over all rows of a batch, seen and synthetic unseen.

        Args:
            teacher_logits: (N, S) floating.
            student_logits: (N, C) floating.
            labels: (N,) integer class ids in 0..C-1, which tell seen rows from unseen ones.

        Returns:
            0-dim tensor, at least 0; 0 if there are no rows.

        Raises:
            InputError: shapes or dtypes that disagree; on the CPU also labels out of range.
        """
        check_matrices("O2DBDLoss", teacher_logits, student_logits)
        check_labels("O2DBDLoss", labels, len(student_logits), self.head.in_features)
        got = tuple(teacher_logits.shape), tuple(student_logits.shape)
        if (got[0][1], got[1][1]) != self.widths:
            raise InputError(f"O2DBDLoss takes logits (N, S), (N, C) with {self.widths}: {got}")
        return self.terms(teacher_logits, student_logits, labels.long())["od"]

    def extra_repr(self) -> str:
        names = ["score", "score_temperature", "target", "relation", "relation_temperature"]
        names += ["rescale", "softmax_confidence", *(["gather"] if self.gather else [])]
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
