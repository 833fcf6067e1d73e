"""The scores of the final classifier: of the host's, the student's, or the sum of both."""

from __future__ import annotations

import math

from torch import Tensor


def final_scores(
    host_scores: Tensor | None,
    student_scores: Tensor | None,
    seen_classes: Tensor,
    *,
    ensemble_weight: float,
    seen_offset: float,
) -> Tensor:
    """A weighted product of experts (Hinton, 2002), with calibrated stacking (Chao et al., 2016).

    Args:
        host_scores: (draws, N, C) scores of the host's classifier, as they come from it.
        student_scores: (N, C) log-probabilities of the student; without them the host's scores are
            returned as they are.
        seen_classes: (S,) int64 class ids.
        ensemble_weight: of the student's log-probabilities beside the host's; alone they count
            once.
        seen_offset: ``seen_offset * log(S)`` is subtracted from the seen scores.

    Returns:
        (draws, N, C), of the student alone (1, N, C).

    Raises:
        ValueError: there is nothing to score with.
    """
    if student_scores is None:
        if host_scores is None:
            raise ValueError("final_scores needs scores of the host, the student or both")
        return host_scores
    alone = host_scores is None
    scores = student_scores[None].clone() if host_scores is None else host_scores.log_softmax(dim=2)
    scores[:, :, seen_classes] -= seen_offset * math.log(len(seen_classes))
    return scores if alone else scores + ensemble_weight * student_scores
