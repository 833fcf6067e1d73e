"""Batch relations: the cosine of every row with every row, against who belongs together.

Everything here is one (N, K) x (K, M) product and its (N, M) result; no row is repeated.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from d3_plugin.checks import check_choice, check_matrices, check_positive, check_tensors
from d3_plugin.errors import InputError
from d3_plugin.precision import autocast_off, full_precision

RelationForm = Literal["contrastive", "bce", "bce_with_logits"]
RELATION_FORMS: tuple[str, ...] = get_args(RelationForm)

_SHORTEST = 1e-8  # the eps of torch.cosine_similarity
_PROBABILITY_MARGIN = 1e-6


def cosine_matrix(rows: Tensor, columns: Tensor) -> Tensor:
    """Cosine of every row of one matrix with every row of another.

    An all-zero row (a dead ReLU embedding) has cosine 0 with everything and gradient 0.

    Args:
        rows: (N, K) floating.
        columns: (M, K) floating.

    Returns:
        (N, M) in [-1, 1], float32 or float64.

    Raises:
        InputError: a wrong shape or dtype.
    """
    check_matrices("cosine_matrix", rows=rows)
    check_matrices("cosine_matrix", columns=columns)
    check_tensors("cosine_matrix", rows=rows, columns=columns)
    if rows.shape[1] != columns.shape[1]:
        raise InputError(
            f"cosine_matrix: rows are {rows.shape[1]} wide, columns {columns.shape[1]}; "
            "both must live in the same space"
        )
    with autocast_off(rows):
        rows, columns = full_precision(rows, columns)
        return _unit(rows) @ _unit(columns).T


def _unit(x: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    inverse = torch.where(length > _SHORTEST, 1 / length.clamp_min(_SHORTEST), 0.0)
    return x * inverse


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
      \mathrm{softmax}_j(c_{ij} / T)` with :math:`P_i = \{j : y_{ij} = 1\}`; rows without a
      positive do not count. The outside form of SupCon (Khosla et al., NeurIPS 2020, eq. 2).
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
        rescale: of the two BCE forms.

    Returns:
        0-dim tensor, at least 0; 0 for an empty matrix.

    Raises:
        InputError: shapes that disagree, an unknown form, a temperature not above 0.
    """
    check_choice("relation_loss", "form", form, RELATION_FORMS)
    check_positive("relation_loss", temperature=temperature)
    cosine = cosine_matrix(rows, columns)
    check_tensors("relation_loss", rows=rows, same=same)
    if same.shape != cosine.shape or same.dtype != torch.bool:
        raise InputError(
            f"relation_loss: same must be a bool {tuple(cosine.shape)} matrix, "
            f"got {same.dtype} {tuple(same.shape)}"
        )
    if cosine.numel() == 0:
        return cosine.sum()
    with autocast_off(cosine):
        if form == "contrastive":
            log_p = (cosine / temperature).log_softmax(dim=1)
            positives = same.sum(dim=1)
            per_row = -log_p.masked_fill(~same, 0.0).sum(dim=1) / positives.clamp_min(1)
            return per_row.sum() / (positives > 0).sum().clamp_min(1)
        p = (cosine + 1) / 2 if rescale else cosine
        if form == "bce_with_logits":
            return F.binary_cross_entropy_with_logits(p, same.float())
        p = p.clamp(_PROBABILITY_MARGIN, 1 - _PROBABILITY_MARGIN)
        # PyTorch's function raises for NaN, on a GPU so that the process cannot go on: a host that
        # diverges shall see NaN, as in its own losses.
        loss = F.binary_cross_entropy(p.nan_to_num(nan=0.5), same.to(p.dtype))
        return loss.masked_fill(p.isnan().any(), float("nan"))
