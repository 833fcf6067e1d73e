"""Random inputs of O2DBDLoss, and the loss with every option."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from d3_plugin.losses import O2DBDLoss
from tests.functional import naive

CLASSES = 6
SEEN = torch.tensor([4, 0, 2])
OPTIONS = [
    {},
    naive.RELEASED_O2DBD,
    {"score": "energy", "score_temperature": 2.0, "target": "class", "rescale": True},
    {"score": "entropy", "relation": "contrastive", "relation_temperature": 0.5},
    {"score": "max_logit", "softmax_confidence": True},
]
every_option = pytest.mark.parametrize(
    "options", OPTIONS, ids=["default", "released", "energy", "entropy", "max_logit"]
)


def random_inputs(
    rows: int,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor, Tensor]:
    """Teacher logits, student logits, labels of all classes."""
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    student = torch.randn(rows, CLASSES, generator=generator, dtype=torch.float64)
    labels = torch.randint(CLASSES, (rows,), generator=generator)
    return (2 * teacher).to(device, dtype), (2 * student).to(device, dtype), labels.to(device)


def make_loss(
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    **options: Any,
) -> O2DBDLoss:
    """A module with drawn parameters, and a standardisation that is not 0 and 1."""
    loss = O2DBDLoss(CLASSES, SEEN, **options).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        loss.head.weight.copy_(torch.randn(2, CLASSES, generator=generator) / 3)
        loss.head.bias.copy_(torch.randn(2, generator=generator))
        loss.confidence_weight.fill_(1.3)
        loss.confidence_offset.fill_(0.4)
        loss.score_mean.fill_(0.25)
        loss.score_std.fill_(0.5)
    return loss.to(device)


def naive_loss(loss: O2DBDLoss, inputs: tuple[Tensor, ...], **options: Any) -> Tensor:
    return naive.o2dbd(
        *inputs,
        SEEN,
        confidence_weight=loss.confidence_weight,
        confidence_offset=loss.confidence_offset,
        head_weight=loss.head.weight,
        head_bias=loss.head.bias,
        score_mean=0.25,
        score_std=0.5,
        **options,
    )
