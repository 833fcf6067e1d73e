"""The settings of D³."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from d3_plugin.checks import Count, NonNegative, Part, Positive, setting_problems
from d3_plugin.errors import InputError
from d3_plugin.functional.label_space import KLForm
from d3_plugin.functional.relations import RelationForm
from d3_plugin.functional.scores import ScoreKind
from d3_plugin.losses.o2dbd import RelationTarget

FinalClassifier = Literal["student", "host", "both"]
StudentStart = Literal["teacher", "semantic", "random"]

SCORING = ("ensemble_weight", "seen_offset")
"""Settings that only ``evaluate()`` uses: with other values finished runs are scored again."""

DISTILLATION = ("kl_weight", "be_weight", "od_weight")
"""Weights of the distillation losses; without them L_cls is left."""

CHANGEABLE = (
    *("weight", "gradient_share", "synthetic_rows", "real_rows", "final_classifier"),
    *SCORING,
)
"""Settings that take effect whenever they change; the others shape teacher, student and losses."""


@dataclass(frozen=True, repr=False)
class D3Settings:
    r"""Settings of D³.

    :meth:`end_to_end` trains the generator on the losses, too; :meth:`released` gives the settings
    of the authors' code.

    The generator's loss is increased by :math:`w\,(w_{cls} L_{cls} + w_{kl} L_{kl} + w_{be} L_{be}
    + w_{od} L_{od})`; the student is trained on the sum in parentheses.

    Attributes:
        weight: w, of all terms in the generator's loss. With 0, the default, only the student
            learns, and the host's training stays bit-identical: no weight that was tried made a
            better generator, see docs/experiments.md.
        gradient_share: above 0, w follows the training so that D³'s part of the generator's
            gradient has this share of its norm, as ``D3.values["gradient_share"]`` measures it;
            ``weight`` counts until it was measured first.
        cls_weight, kl_weight, be_weight, od_weight: weight of this term; with 0 it is not computed.
        kl_form, temperature: of L_kl, see :func:`d3_plugin.functional.label_space_kl`.
        relation, relation_temperature: of L_be, see :func:`d3_plugin.functional.relation_loss`.
        score, score_temperature: see :func:`d3_plugin.functional.id_score`.
        od_target, od_relation, od_rescale: of L_od, see :class:`d3_plugin.losses.O2DBDLoss`.
        od_standardise: standardise the score by mean and deviation over the seen training rows.
        od_softmax_confidence, od_initial_offset: see :class:`d3_plugin.losses.O2DBDLoss`.
        synthetic_rows: synthetic unseen rows per step, of classes drawn at random.
        real_rows: real seen rows per step, if the host's loop passes none.
        embedding_dim: K, width of the embeddings of teacher and student.
        student_start: ``semantic`` copies the teacher's embedding and seen-class logits into the
            student and predicts the weights of unseen classes from the attributes, see
            :meth:`.networks.EmbeddingClassifier.predict_unseen`; ``teacher`` only copies;
            ``random`` is the released code's start, from which the student needs more steps the
            more classes there are.
        student_lr: learning rate of student and O²DBD.
        teacher_lr: learning rate of the teacher's pre-training.
        teacher_epochs: its maximum number of epochs; it may stop earlier, and does so after 2,000
            steps.
        final_classifier: used by ``evaluate()``: ``student``; ``host``, the host's own final
            classifier on features of its generator; or ``both``, the host's
            log-probabilities plus ``ensemble_weight`` times the student's.
        ensemble_weight: weight of the student in ``both``, a weighted product of experts (Hinton,
            2002). 0.7 was chosen on pseudo-unseen classes, see docs/defaults.md.
        seen_offset: calibrated stacking (Chao et al., ECCV 2016), which cannot change AUSUC:
            ``seen_offset * log(S)``, S the number of seen classes, is subtracted from the seen
            scores of the final classifier; no effect with ``final_classifier="host"``. It grows
            with S because an unseen class must beat the best of S seen scores, and the maximum of
            S variables with exponential tails grows like log S. The default was chosen on
            pseudo-unseen classes for all data, for an ``ensemble_weight`` of 0.7.

    Raises:
        InputError: lists every value outside its range.
    """

    weight: NonNegative = 0.0
    gradient_share: Part = 0.0
    cls_weight: NonNegative = 1.0
    kl_weight: NonNegative = 1.0
    be_weight: NonNegative = 1.0
    od_weight: NonNegative = 0.1
    kl_form: KLForm = "logits"
    temperature: Positive = 4.0
    relation: RelationForm = "contrastive"
    relation_temperature: Positive = 0.1
    score: ScoreKind = "max_softmax"
    score_temperature: Positive = 1.0
    od_target: RelationTarget = "domain"
    od_relation: RelationForm = "bce"
    od_rescale: bool = False
    od_standardise: bool = True
    od_softmax_confidence: bool = False
    od_initial_offset: NonNegative = 1.0
    synthetic_rows: Count = 32
    real_rows: Count = 32
    embedding_dim: Count = 1024
    student_start: StudentStart = "semantic"
    student_lr: Positive = 2e-4
    teacher_lr: Positive = 1e-3
    teacher_epochs: Count = 50
    final_classifier: FinalClassifier = "both"
    ensemble_weight: NonNegative = 0.7
    seen_offset: NonNegative = 0.35

    def __post_init__(self) -> None:
        problems = setting_problems("D3Settings", type(self), vars(self))
        if not problems.found and self.gradient_share and not self.weight:
            problems.add(
                "with gradient_share, weight must be above 0: it is where the weight starts; "
                "D3Settings.end_to_end() sets both"
            )
        problems.raise_as(InputError)
        for name, value in vars(self).items():
            if isinstance(value, np.generic):  # which JSON does not know
                object.__setattr__(self, name, value.item())

    def __repr__(self) -> str:
        """The settings that are not the defaults."""
        changed = (f"{n}={v!r}" for n, v in vars(self).items() if v != getattr(D3Settings, n))
        return f"D3Settings({', '.join(changed)})"

    @classmethod
    def end_to_end(cls, share: float = 0.03, **changes: Any) -> D3Settings:
        """The paper's form: the generator is trained on its own loss and D³'s together.

        A fixed weight means little: 0.01 made up 43 % of the gradient in a small host and 0.1 % in
        a large one. Here the weight follows a share of the gradient.

        Args:
            share: D³'s, of the norm of the generator's gradient; above 0 and below 1.
            changes: fields to change.
        """
        return cls(**{"weight": 1e-4, "gradient_share": share, **changes})

    @classmethod
    def released(cls, **changes: Any) -> D3Settings:
        """The authors' released formulas, with the generator's weight 1e-4 of their comments.

        Args:
            changes: fields to change.
        """
        released: dict[str, Any] = {
            "weight": 1e-4,
            "od_weight": 1.0,
            "temperature": 1.0,
            "kl_form": "double_softmax",
            "relation": "bce_with_logits",
            "score": "log_max_softmax",
            "od_target": "class",
            "od_relation": "bce_with_logits",
            "od_rescale": True,
            "od_standardise": False,
            "od_softmax_confidence": True,
            "od_initial_offset": 0.0,
            "synthetic_rows": 64,
            "real_rows": 64,
            "student_start": "random",
            "student_lr": 1e-4,
            "final_classifier": "student",
            "seen_offset": 0.0,
        }
        return cls(**{**released, **changes})
