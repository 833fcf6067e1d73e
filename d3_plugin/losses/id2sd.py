"""ID²SD: in-distribution dual-space distillation."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from d3_plugin.checks import NonNegative, Positive, checked
from d3_plugin.distributed import gather_rows, mean_over_processes
from d3_plugin.errors import InputError
from d3_plugin.functional import label_space_kl, relation_loss
from d3_plugin.functional.inputs import check_labels, check_matrices, check_seen_classes
from d3_plugin.functional.label_space import KLForm
from d3_plugin.functional.precision import full_precision
from d3_plugin.functional.relations import RelationForm


class ID2SDLoss(nn.Module):
    r"""Distils a teacher of the seen classes into a student of all classes, in two spaces.

    :math:`L_{id} = w_{kl} L_{kl} + w_{be} L_{be}` over in-distribution rows:

    * label space, :func:`~d3_plugin.functional.label_space_kl`;
    * embedding space, :func:`~d3_plugin.functional.relation_loss` of the cosines between teacher
      row i and student row j, which belong together if their classes agree.

    Source: D3GZSL (AAAI 2024), ID²SD. The default corrects the released code (one softmax
    instead of two, scaled cosines in contrastive form); :meth:`released` reproduces that code to
    the digit.

    Args:
        seen_classes: (S,) integer, the student's column for each column of the teacher.
        kl_weight, be_weight: at least 0; a term of weight 0 is not computed.
        kl_form, temperature: of :func:`~d3_plugin.functional.label_space_kl`.
        relation, relation_temperature: form and temperature of
            :func:`~d3_plugin.functional.relation_loss`.
        gather: use the rows of all processes of ``torch.distributed``. Value and averaged gradient
            are those of one process with the whole batch, also for unequal numbers of rows
            (:mod:`d3_plugin.distributed` has the derivation). Every process must call the loss.
            Without a process group it has no effect.

    Raises:
        InputError: an option outside its range.

    >>> import torch
    >>> loss = ID2SDLoss(torch.tensor([0, 2]))
    >>> teacher, student, z = torch.zeros(4, 2), torch.zeros(4, 3), torch.eye(4)
    >>> loss.terms(teacher, student, z, z, torch.tensor([0, 0, 2, 2]))["kl"].item()
    0.0
    """

    seen_classes: Tensor
    kl_form: KLForm
    relation: RelationForm
    __call__: Callable[..., Tensor]  # for editors: nn.Module says Any

    @checked
    def __init__(
        self,
        seen_classes: Tensor,
        *,
        kl_weight: NonNegative = 1.0,
        be_weight: NonNegative = 1.0,
        kl_form: KLForm = "logits",
        temperature: Positive = 1.0,
        relation: RelationForm = "contrastive",
        relation_temperature: Positive = 0.1,
        gather: bool = False,
    ) -> None:
        check_seen_classes("ID2SDLoss", seen_classes)
        super().__init__()
        self.width = int(seen_classes.max()) + 1
        self.register_buffer("seen_classes", seen_classes.long(), persistent=False)
        self.kl_weight, self.be_weight = kl_weight, be_weight
        self.kl_form, self.temperature = kl_form, temperature
        self.relation, self.relation_temperature = relation, relation_temperature
        self.gather = gather

    @classmethod
    def released(cls, seen_classes: Tensor, *, gather: bool = False) -> ID2SDLoss:
        """The authors' released formulas: softmax twice, probabilities into BCE-with-logits."""
        return cls(
            seen_classes, kl_form="double_softmax", relation="bce_with_logits", gather=gather
        )

    @property
    def weights(self) -> dict[str, float]:
        """The weights of the terms, by name."""
        return {"kl": self.kl_weight, "be": self.be_weight}

    def terms(
        self,
        teacher_logits: Tensor,
        student_logits: Tensor,
        teacher_embedding: Tensor,
        student_embedding: Tensor,
        labels: Tensor,
    ) -> dict[str, Tensor]:
        """The unweighted terms ``kl`` and ``be``, except those of weight 0; without checks.

        Args: as in :meth:`forward`.
        """
        terms: dict[str, Tensor] = {}
        if self.kl_weight:
            kl = label_space_kl(
                teacher_logits, student_logits, self.seen_classes, self.temperature, self.kl_form
            )
            terms["kl"] = mean_over_processes(kl, len(labels)) if self.gather else kl
        if self.be_weight:
            if self.gather:
                teacher_embedding, student_embedding, labels = gather_rows(
                    teacher_embedding, student_embedding, labels
                )
            terms["be"] = relation_loss(
                teacher_embedding,
                student_embedding,
                labels[:, None] == labels,
                self.relation,
                temperature=self.relation_temperature,
            )
        return terms

    def forward(
        self,
        teacher_logits: Tensor,
        student_logits: Tensor,
        teacher_embedding: Tensor,
        student_embedding: Tensor,
        labels: Tensor,
    ) -> Tensor:
        """The weighted sum of :meth:`terms`.

        Args:
            teacher_logits: (N, S) floating; all inputs have in-distribution rows only.
            student_logits: (N, C) floating.
            teacher_embedding, student_embedding: (N, K) floating.
            labels: (N,) integer, class ids or any other numbering of the classes.

        Returns:
            0-dim tensor, float32 or float64; 0 if there are no rows.

        Raises:
            InputError: shapes or dtypes that disagree.
        """
        matrices = teacher_logits, student_logits, teacher_embedding, student_embedding
        check_matrices("ID2SDLoss", *matrices)
        check_labels("ID2SDLoss", labels, len(student_logits))
        if student_logits.shape[1] < self.width:
            raise InputError(
                f"ID2SDLoss takes student logits of all classes, got {tuple(student_logits.shape)}"
            )
        terms = self.terms(*matrices, labels)
        zero = full_precision(student_logits.new_zeros(()))[0]
        return sum((self.weights[k] * v for k, v in terms.items()), start=zero)

    def extra_repr(self) -> str:
        names = ["kl_weight", "be_weight", "kl_form", "temperature", "relation"]
        names += ["relation_temperature", *(["gather"] if self.gather else [])]
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
