"""In-distribution scores from the teacher's logits."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from d3_plugin.errors import InputError
from d3_plugin.functional.inputs import check_matrices
from d3_plugin.functional.precision import autocast_off, full_precision

ScoreKind = Literal["max_softmax", "log_max_softmax", "max_logit", "energy", "entropy"]
SCORE_KINDS: tuple[str, ...] = get_args(ScoreKind)


def id_score(
    teacher_logits: Tensor, kind: ScoreKind = "max_softmax", temperature: float = 1.0
) -> Tensor:
    r"""In-distribution score of each row; **higher means more like seen data** for every kind.

    With :math:`u = v / T` and :math:`p = \mathrm{softmax}(u)`:

    * ``max_softmax``: :math:`\max_k p_k` (Hendrycks & Gimpel, ICLR 2017);
    * ``log_max_softmax``: its logarithm, as in D3GZSL's released code;
    * ``max_logit``: :math:`\max_k u_k` (Hendrycks et al., ICML 2022);
    * ``energy``: :math:`T \log \sum_k \exp u_k`, the *negative* energy (Liu et al., NeurIPS 2020);
    * ``entropy``: :math:`\sum_k p_k \log p_k`, the *negative* entropy.

    Args:
        teacher_logits: (N, S) floating, logits over the seen classes; half precision is computed
            in float32.
        kind: which score.
        temperature: T > 0.

    Returns:
        (N,) scores, float32 or float64.

    Raises:
        InputError: a wrong shape or dtype, or an unknown kind.

    >>> id_score(torch.tensor([[9.0, 0.0], [0.1, 0.0]])).argmax().item()
    0
    """
    check_matrices("id_score", teacher_logits)
    if kind not in SCORE_KINDS:
        raise InputError(f"id_score takes kind {', '.join(SCORE_KINDS)}; got {kind!r}")
    with autocast_off(teacher_logits):
        (logits,) = full_precision(teacher_logits)
        logits = logits / temperature
        if kind == "max_logit":
            return logits.amax(dim=1)
        if kind == "energy":
            return temperature * logits.logsumexp(dim=1)
        log_p = logits.log_softmax(dim=1)
        if kind == "entropy":
            # 0 * log 0 is 0, and not NaN.
            return (log_p.exp() * log_p.clamp_min(torch.finfo(log_p.dtype).min)).sum(dim=1)
        log_max = log_p.amax(dim=1)
        return log_max.exp() if kind == "max_softmax" else log_max


def id_confidence(score: Tensor, weight: Tensor, offset: Tensor) -> Tensor:
    r"""The pair :math:`\tilde h = [c, 1 - c]` with :math:`c = \sigma(w (s + b))`.

    Args:
        score: (N,) in-distribution scores, higher = more like seen data.
        weight, offset: the learnable w and b, one element each.

    Returns:
        (N, 2) probabilities; column 0 is the confidence that the row is in-distribution.

    Raises:
        InputError: scores that are not floating (N,), or more than one weight or offset.

    Source: D3GZSL, the learnable sigmoid of O²DBD.
    """
    if score.ndim != 1 or not score.is_floating_point() or weight.numel() * offset.numel() != 1:
        raise InputError(
            "id_confidence takes floating scores (N,) and one weight and one offset, got "
            f"{score.dtype} {tuple(score.shape)}, {tuple(weight.shape)} and {tuple(offset.shape)}"
        )
    with autocast_off(score):
        s, w, b = full_precision(score, weight, offset)
        logit = w * (s + b)
        # sigmoid(-x), not 1 - sigmoid(x), keeps small values and their gradient exact.
        return torch.stack([logit, -logit], dim=1).sigmoid()
