"""``torch.compile`` takes the losses whole: no graph break, eager's values, any batch size.

The backends need no C++ compiler: ``eager`` runs what was traced, ``aot_eager`` traces the backward
pass too.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from d3_plugin.functional import (
    cosine_matrix,
    id_confidence,
    id_score,
    label_space_kl,
    relation_loss,
)
from d3_plugin.functional.relations import RELATION_FORMS
from d3_plugin.functional.scores import SCORE_KINDS
from d3_plugin.losses import ID2SDLoss, O2DBDLoss

SEEN, CLASSES = torch.tensor([0, 2, 3, 5]), 7
Case = tuple[Callable[..., Tensor], Callable[[int], list[Tensor]]]


def normal(rows: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(rows + width)
    return torch.randn(rows, width, generator=generator, dtype=torch.float64)


def labels(rows: int) -> Tensor:
    return torch.arange(rows) % CLASSES


def same(rows: int) -> Tensor:
    return labels(rows)[:, None] == labels(rows)[None, :]


def id2sd_inputs(rows: int) -> list[Tensor]:
    logits = [normal(rows, len(SEEN)), normal(rows, CLASSES)]
    return [*logits, normal(rows, 6).relu(), normal(rows, 8)[:, :6], labels(rows)]


def o2dbd_inputs(rows: int) -> list[Tensor]:
    return [normal(rows, len(SEEN)), normal(rows, CLASSES), labels(rows)]


CASES: dict[str, Case] = {
    "cosine_matrix": (cosine_matrix, lambda n: [normal(n, 6), normal(n, 6)]),
    "label_space_kl": (
        lambda t, s: label_space_kl(t, s, SEEN, 2.0),
        lambda n: [normal(n, len(SEEN)), normal(n, CLASSES)],
    ),
    "id_confidence": (
        id_confidence,
        lambda n: [normal(n, 1)[:, 0], normal(1, 1)[0], normal(1, 1)[0]],
    ),
    **{
        f"id_score-{kind}": (
            lambda v, kind=kind: id_score(v, kind),
            lambda n: [normal(n, len(SEEN))],
        )
        for kind in SCORE_KINDS
    },
    **{
        f"relation_loss-{form}": (
            lambda a, b, s, form=form: relation_loss(a, b, s, form),
            lambda n: [normal(n, 6), normal(n, 8)[:, :6], same(n)],
        )
        for form in RELATION_FORMS
    },
    "ID2SDLoss": (ID2SDLoss(SEEN), id2sd_inputs),
    "ID2SDLoss.released": (ID2SDLoss.released(SEEN), id2sd_inputs),
    "O2DBDLoss": (O2DBDLoss(CLASSES, SEEN).double(), o2dbd_inputs),
    "O2DBDLoss.released": (O2DBDLoss.released(CLASSES, SEEN).double(), o2dbd_inputs),
}


def value_and_gradients(function: Callable[..., Tensor], inputs: list[Tensor]) -> list[Tensor]:
    inputs = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    value = function(*inputs)
    floating = [x for x in inputs if x.requires_grad]
    return [value.detach(), *torch.autograd.grad(value.square().sum(), floating)]


@pytest.mark.parametrize("name", CASES)
def test_compiles_whole_and_gives_what_eager_gives(name: str) -> None:
    """With symbolic shapes, which torch.compile turns to at the second size of a batch."""
    function, make = CASES[name]
    torch._dynamo.reset()
    backend = "aot_eager" if name in ("ID2SDLoss", "O2DBDLoss") else "eager"
    compiled = torch.compile(function, fullgraph=True, backend=backend, dynamic=True)
    for rows in (9, 14):
        expected = value_and_gradients(function, make(rows))
        for got, wanted in zip(value_and_gradients(compiled, make(rows)), expected, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-14)


def test_default_compile_survives_a_shorter_last_batch() -> None:
    loss = O2DBDLoss(CLASSES, SEEN).double()
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    for rows in (14, 14, 9):
        inputs = o2dbd_inputs(rows)
        assert compiled(*inputs).item() == pytest.approx(loss(*inputs).item(), rel=1e-12)
