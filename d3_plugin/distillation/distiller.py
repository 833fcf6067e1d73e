"""Teacher, student and the D³ terms of a batch in one module."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d3_plugin.distillation.networks import EmbeddingClassifier
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.distributed import mean_over_processes
from d3_plugin.functional.precision import autocast_off
from d3_plugin.hosts.host import StepBatch
from d3_plugin.losses import ID2SDLoss, O2DBDLoss


class Distiller(nn.Module):
    """Computes the terms of :class:`D3Settings` on synthetic and real rows.

    Args:
        teacher: pre-trained and frozen, over the seen classes.
        num_classes: C.
        seen_classes: (S,) class ids, in the order of the teacher's outputs.
        settings: weights and forms.
        teacher_logits: (N, S) of the seen training rows, to standardise the teacher's score.
        gather: compute every term on the rows of all processes, see :mod:`d3_plugin.distributed`.
    """

    def __init__(
        self,
        teacher: EmbeddingClassifier,
        num_classes: int,
        seen_classes: Tensor,
        settings: D3Settings,
        teacher_logits: Tensor,
        *,
        gather: bool = False,
    ) -> None:
        super().__init__()
        s = settings
        self.gather = gather
        self.teacher = teacher
        self.student = EmbeddingClassifier(teacher.feature_dim, s.embedding_dim, num_classes)
        self.id2sd = ID2SDLoss(
            seen_classes,
            kl_weight=s.kl_weight,
            be_weight=s.be_weight,
            kl_form=s.kl_form,
            temperature=s.temperature,
            relation=s.relation,
            relation_temperature=s.relation_temperature,
            gather=gather,
        )
        self.o2dbd = O2DBDLoss(
            num_classes,
            seen_classes,
            score=s.score,
            score_temperature=s.score_temperature,
            target=s.od_target,
            relation=s.od_relation,
            relation_temperature=s.relation_temperature,
            rescale=s.od_rescale,
            softmax_confidence=s.od_softmax_confidence,
            initial_offset=s.od_initial_offset,
            gather=gather,
        )
        self.weights = {"cls": s.cls_weight, "od": s.od_weight, **self.id2sd.weights}
        if s.od_standardise:
            with torch.no_grad():
                self.o2dbd.fit_score(teacher_logits)
        self.to(seen_classes.device, torch.float32)
        if s.student_start != "random":
            self.student.copy_from(teacher, seen_classes)

    def learned(self) -> list[nn.Parameter]:
        """The parameters that training changes: all but the teacher's."""
        return [p for p in self.parameters() if p.requires_grad]

    def batch(self, synthetic: Tensor, real: Tensor, labels: Tensor) -> StepBatch:
        """Teacher and student on synthetic rows (M, D) and real rows (B, D); labels (M + B,)."""
        with autocast_off(real):
            rows = torch.cat([synthetic.float(), real.float()])
            logits, embeddings = zip(self.teacher(rows), self.student(rows), strict=True)
            return StepBatch(rows, labels, len(synthetic), *logits, *embeddings)

    def terms(self, batch: StepBatch) -> dict[str, Tensor]:
        """The weighted terms by name: ``cls``, ``kl``, ``be``, ``od``, except those of weight 0."""
        b, n = batch, batch.num_synthetic
        with autocast_off(b.features):
            terms: dict[str, Tensor] = {}
            if self.weights["cls"]:
                cls = F.cross_entropy(b.student_logits, b.labels)
                terms["cls"] = mean_over_processes(cls, len(b.labels)) if self.gather else cls
            parts = [n, len(b.labels) - n]  # in backward cheaper than slices
            rows = b.teacher_logits, b.student_logits, b.teacher_embedding, b.student_embedding
            terms |= self.id2sd.terms(*(each.split(parts)[1] for each in (*rows, b.labels)))
            if self.weights["od"]:
                terms |= self.o2dbd.terms(b.teacher_logits, b.student_logits, b.labels)
            weights = self.weights  # most are 1
            return {k: t if weights[k] == 1 else weights[k] * t for k, t in terms.items()}
