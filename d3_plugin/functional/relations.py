"""Batch relations: the cosines of all pairs of rows, compared with which pairs belong together.

One (N, K) x (K, M) product and its (N, M) result; no row is repeated.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from d3_plugin.errors import InputError
from d3_plugin.functional.precision import autocast_off, full_precision

RelationForm = Literal["contrastive", "bce", "bce_with_logits"]
RELATION_FORMS: tuple[str, ...] = get_args(RelationForm)

_SHORTEST = 1e-8  # the eps of torch.cosine_similarity
_PROBABILITY_MARGIN = 1e-6


def cosine_matrix(rows: Tensor, columns: Tensor) -> Tensor:
    """Cosine of every row of one matrix with every row of another.

    An all-zero row (a dead ReLU embedding) has cosine 0 with every row, and gradient 0.

    Args:
        rows: (N, K) floating.
        columns: (M, K) floating.

    Returns:
        (N, M) in [-1, 1], float32 or float64.

    Raises:
        InputError: shapes that disagree.
    """
    _check_widths("cosine_matrix", rows, columns)
    return _scaled_cosines(rows, columns, 1.0)


def _check_widths(function: str, rows: Tensor, columns: Tensor) -> None:
    if rows.ndim != 2 or rows.shape[1:] != columns.shape[1:]:
        raise InputError(
            f"{function} takes rows (N, K) and columns (M, K) of equal K, got {tuple(rows.shape)} "
            f"and {tuple(columns.shape)}"
        )


def _scaled_cosines(rows: Tensor, columns: Tensor, scale: float) -> Tensor:
    """The cosines times ``scale``.

    The lengths of the columns divide the product, which is smaller than the columns.
    """
    with autocast_off(rows):
        rows, columns = full_precision(rows, columns)
        return (rows * _inverse_length(rows, scale)) @ columns.T * _inverse_length(columns, 1.0).T


def _inverse_length(x: Tensor, scale: float) -> Tensor:
    """``scale`` over the length of each row (N, 1); 0 for an all-zero row."""
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    if x.dtype == torch.float32:  # squares above 1e38 overflow; the gradient there is nearly 0
        small = x.detach() * 2.0**-80  # not float64, which Apple GPUs lack
        exact = torch.linalg.vector_norm(small, dim=1, keepdim=True) * 2.0**80
        length = torch.where(length.isinf(), exact, length)
    inverse: Tensor = scale / F.threshold(length, _SHORTEST, math.inf)
    return inverse


def relation_loss(
    rows: Tensor,
    columns: Tensor,
    same: Tensor,
    form: RelationForm = "contrastive",
    *,
    temperature: float = 0.1,
    rescale: bool = True,
) -> Tensor:
    r"""How far the cosines :math:`c_{ij}` are from the 0/1 relation :math:`y_{ij}` of a batch.

    * ``contrastive``: :math:`-\frac1N \sum_i \frac1{|P_i|} \sum_{j \in P_i} \log
      \mathrm{softmax}_j(c_{ij} / T)` with :math:`P_i = \{j : y_{ij} = 1\}`; rows without
      positives are left out. The outside form of SupCon (Khosla et al., NeurIPS 2020, eq. 2).
    * ``bce``: mean binary cross-entropy of :math:`p_{ij}`, clamped to [1e-6, 1 - 1e-6], where
      :math:`p = (1 + c) / 2` if ``rescale`` and :math:`p = \max(c, 0)` if not. Without rescaling
      non-negative vectors (ReLU, softmax) can reach 0; with it they stay above 1/2.
    * ``bce_with_logits``: the released D3GZSL code: p goes into BCE-*with-logits* as if it were a
      logit, so a perfect match still costs 0.31; the relation matrix is float32 there, which makes
      the *value* float32 (gradients keep the dtype of the inputs).

    Args:
        rows: (N, K) floating.
        columns: (M, K) floating.
        same: (N, M) bool, which pairs belong together.
        form: see above.
        temperature: T > 0 of the contrastive form.
        rescale: for the two BCE forms.

    Returns:
        0-dim tensor, at least 0; 0 if the matrix is empty.

    Raises:
        InputError: shapes that disagree, a ``same`` that is not bool, or an unknown form.
    """
    _check_widths("relation_loss", rows, columns)
    if same.shape != (len(rows), len(columns)) or same.dtype != torch.bool:
        raise InputError(
            f"relation_loss takes same as a bool ({len(rows)}, {len(columns)}) matrix, "
            f"got {same.dtype} {tuple(same.shape)}"
        )
    if form not in RELATION_FORMS:
        raise InputError(f"relation_loss takes form {', '.join(RELATION_FORMS)}; got {form!r}")
    scale = 1 / temperature if form == "contrastive" else 1.0
    cosine = _scaled_cosines(rows, columns, scale)
    return loss_of_cosines(cosine, same, form, rescale=rescale)


def loss_of_cosines(cosine: Tensor, same: Tensor, form: RelationForm, *, rescale: bool) -> Tensor:
    """:func:`relation_loss` of (N, M) cosines, in contrastive form already divided by T."""
    if cosine.numel() == 0:
        return cosine.sum()
    with autocast_off(cosine):
        if form == "contrastive":
            # log softmax_j = c_j - logsumexp, averaged over the positives, needs no second (N, M).
            positives = same.sum(dim=1)
            mean_positive = cosine.masked_fill(~same, 0.0).sum(dim=1) / positives.clamp_min(1)
            counts = positives > 0
            per_row = (cosine.logsumexp(dim=1) - mean_positive).masked_fill(~counts, 0.0)
            return per_row.sum() / counts.sum().clamp_min(1)
        p = (cosine + 1) / 2 if rescale else cosine
        if form == "bce_with_logits":
            return F.binary_cross_entropy_with_logits(p, same.float())
        # The likelihood takes one logarithm per entry; the fused BCE takes two.
        likelihood = torch.where(same, p, 1 - p)
        return -likelihood.clamp(_PROBABILITY_MARGIN, 1 - _PROBABILITY_MARGIN).log().mean()
