"""ID²SD in label space: the student learns the teacher's probabilities on seen rows."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from d3_plugin.errors import InputError
from d3_plugin.functional.inputs import check_matrices
from d3_plugin.functional.precision import autocast_off, full_precision

KLForm = Literal["logits", "double_softmax"]
KL_FORMS: tuple[str, ...] = get_args(KLForm)


def label_space_kl(
    teacher_logits: Tensor,
    student_logits: Tensor,
    seen_classes: Tensor,
    temperature: float = 1.0,
    form: KLForm = "logits",
) -> Tensor:
    r"""KL divergence of the student, restricted to the seen classes, from the teacher.

    :math:`\frac{T^2}{N} \sum_i \mathrm{KL}\big(\mathrm{softmax}(\tilde v_i / T) \,\|\,
    \mathrm{softmax}(\hat v_i^{seen} / T)\big)`; the factor T² keeps the gradient's size over T
    (Hinton et al., 2015). D3GZSL, the label space of ID²SD.

    Args:
        teacher_logits: (N, S) floating, over the seen classes.
        student_logits: (N, C) floating, over all classes; in-distribution rows only.
        seen_classes: (S,) integer, the student's column for each column of the teacher.
        temperature: T > 0.
        form: ``logits``, or ``double_softmax`` for the released code, which feeds
            *probabilities* to a second softmax on both sides (and so is nearly zero).

    Returns:
        0-dim tensor, at least 0, float32 or float64; 0 if there are no rows.

    Raises:
        InputError: shapes that disagree, integer logits or an unknown form.
    """
    check_matrices("label_space_kl", teacher_logits, student_logits)
    if seen_classes.shape != teacher_logits.shape[1:] or form not in KL_FORMS:
        raise InputError(
            f"label_space_kl takes seen_classes {tuple(teacher_logits.shape[1:])} and form "
            f"{' or '.join(KL_FORMS)}, got {tuple(seen_classes.shape)} and {form!r}"
        )
    with autocast_off(teacher_logits):
        teacher, student = full_precision(teacher_logits, student_logits)
        student = student.index_select(1, seen_classes.long())
        if form == "double_softmax":
            teacher, student = teacher.softmax(dim=1), student.softmax(dim=1)
        # Where the teacher says 0, as for a logit of -inf, 0 * log 0 is 0 and not NaN.
        log_teacher = (teacher / temperature).log_softmax(dim=1)
        divergence = F.kl_div(
            (student / temperature).log_softmax(dim=1),
            log_teacher.clamp_min(torch.finfo(log_teacher.dtype).min),
            reduction="sum",
            log_target=True,
        )
        return divergence * (temperature**2 / max(len(teacher), 1))
