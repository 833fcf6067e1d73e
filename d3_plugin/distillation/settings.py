"""Every number of D³ in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from d3_plugin.checks import Count, NonNegative, Positive, setting_problems
from d3_plugin.errors import InputError
from d3_plugin.functional.label_space import KLForm
from d3_plugin.functional.relations import RelationForm
from d3_plugin.functional.scores import ScoreKind
from d3_plugin.losses.o2dbd import RelationTarget

FinalClassifier = Literal["student", "host", "both"]
StudentStart = Literal["teacher", "random"]

SCORING = ("ensemble_weight", "seen_offset")
"""What only ``evaluate()`` looks at: a finished training can be scored again with other values."""


@dataclass(frozen=True)
class D3Settings:
    r"""Settings of D³; :meth:`released` gives those of the authors' code.

    The host's generator gets :math:`w\,(w_{cls} L_{cls} + w_{kl} L_{kl} + w_{be} L_{be} + w_{od}
    L_{od})` on top of its own loss, and the student is trained on the bracket.

    Attributes:
        weight: w, of everything in the generator's loss; 0 leaves the host bit-identical while
            the student still learns.
        cls_weight, kl_weight, be_weight, od_weight: of the terms; at least 0, and 0 skips a term.
        kl_form, temperature: of L_kl, see :func:`d3_plugin.functional.label_space_kl`.
        relation, relation_temperature: of L_be, see :func:`d3_plugin.functional.relation_loss`.
        score, score_temperature: see :func:`d3_plugin.functional.id_score`.
        od_target, od_relation, od_rescale: of L_od, see :class:`d3_plugin.losses.O2DBDLoss`.
        od_standardise: standardise the score by its mean and deviation over seen training rows.
        od_softmax_confidence, od_initial_offset: see :class:`d3_plugin.losses.O2DBDLoss`.
        synthetic_rows: synthetic unseen rows per step, of classes drawn at random.
        real_rows: real seen rows per step, where the host's loop hands over none.
        embedding_dim: K, of teacher and student.
        student_start: ``teacher`` copies the teacher's embedding, and its logits of the seen
            classes, into the student; ``random`` is the released code's. A student from scratch
            needs the more steps the more classes there are; a copy starts where the teacher, which
            was trained until it stopped improving, already is.
        student_lr: of the student's and O²DBD's Adam.
        teacher_lr, teacher_epochs: of the teacher's pre-training; it may stop earlier.
        final_classifier: what ``evaluate()`` scores with: the student's logits, the host's own
            final classifier on the features of the D³-trained generator, or both: the host's
            log-probabilities plus ``ensemble_weight`` times the student's.
        ensemble_weight: see above; a weighted product of experts (Hinton, 2002). Half was chosen
            on pseudo-unseen classes for its worst case, see docs/defaults.md.
        seen_offset: ``seen_offset * log(S)`` nats, S the number of seen classes, are subtracted
            from the seen scores of the final classifier; not with ``final_classifier="host"``.
            This is calibrated stacking (Chao et al., ECCV 2016), which cannot change AUSUC. It
            grows with S because the best of S seen scores has to be beaten, and the maximum of S
            variables with exponential tails grows as log S. One number for all data was chosen on
            pseudo-unseen classes, for an ``ensemble_weight`` of 0.5.

    Raises:
        InputError: lists every value outside its range.
    """

    weight: NonNegative = 0.01
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
    synthetic_rows: Count = 64
    real_rows: Count = 64
    embedding_dim: Count = 1024
    student_start: StudentStart = "teacher"
    student_lr: Positive = 2e-4
    teacher_lr: Positive = 1e-3
    teacher_epochs: Count = 50
    final_classifier: FinalClassifier = "both"
    ensemble_weight: NonNegative = 0.5
    seen_offset: NonNegative = 0.3

    def __post_init__(self) -> None:
        setting_problems("D3Settings", type(self), vars(self)).raise_as(InputError)

    @classmethod
    def released(cls, **changes: Any) -> D3Settings:
        """The authors' released formulas, with the generator's weight 1e-4 of their comments.

        Args:
            changes: fields to set otherwise.
        """
        released: dict[str, Any] = {
            "weight": 1e-4,
            "kl_weight": 1.0,
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
            "student_start": "random",
            "student_lr": 1e-4,
            "final_classifier": "student",
            "seen_offset": 0.0,
        }
        return cls(**{**released, **changes})
