"""The preset ``released`` gives the authors' released formulas to the digit.

Twice: against values and gradients recorded from those formulas, where the folder with them is
there, and against the naive loops on made-up data everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from d3_plugin.losses import ID2SDLoss, O2DBDLoss
from tests.functional import naive

NAMES = ["released_losses_small", "released_losses_cub_shape"]
HEADS = {
    "confidence_weight": "confidence_weight",
    "confidence_offset": "confidence_offset",
    "head_weight": "head.weight",
    "head_bias": "head.bias",
}
GRADIENTS = {
    "cls": ["student_logits"],
    "kl": ["student_logits"],
    "be": ["student_embedding"],
    "od": ["student_logits", *HEADS],
}
Case = dict[str, Tensor]


def golden_folder() -> Path:
    data = os.environ.get("D3_DATA")
    shared = Path(data).parent if data else Path(__file__).resolve().parents[3] / "shared"
    return shared / "golden"


def load(name: str) -> Case:
    path = golden_folder() / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"no golden values: {path} (set D3_DATA, the folder beside golden/)")
    with np.load(path) as arrays:
        return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays}


def made_up(seed: int) -> Case:
    """Inputs of the same make: synthetic unseen rows first, then rows of seen classes."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(7, generator=generator)
    seen, unseen = order[:4].sort().values, order[4:].sort().values
    n_ood, n_id = 5, 9
    labels = torch.cat(
        [
            unseen[torch.randint(3, (n_ood,), generator=generator)],
            seen[torch.randint(4, (n_id,), generator=generator)],
        ]
    )

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "seen_classes": seen,
        "labels": labels,
        "n_ood": torch.tensor(n_ood),
        "teacher_embedding": normal(14, 6).relu(),
        "student_embedding": normal(14, 6).relu(),
        "teacher_logits": 4 * normal(14, 4),
        "student_logits": 4 * normal(14, 7),
        "confidence_weight": torch.tensor([1.3], dtype=torch.float64),
        "confidence_offset": torch.tensor([0.4], dtype=torch.float64),
        "head_weight": normal(2, 7) / 3,
        "head_bias": normal(2),
    }


def release(case: Case) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The four losses of the preset, and the tensors their gradients are asked for."""
    seen, labels, n_ood = case["seen_classes"], case["labels"], int(case["n_ood"])
    student_logits = case["student_logits"].clone().requires_grad_()
    student_embedding = case["student_embedding"].clone().requires_grad_()
    id2sd = ID2SDLoss.released(seen)
    o2dbd = O2DBDLoss.released(student_logits.shape[1], seen).double()
    with torch.no_grad():
        for name, parameter in HEADS.items():
            o2dbd.get_parameter(parameter).copy_(case[name])
    terms = id2sd.terms(
        case["teacher_logits"][n_ood:],
        student_logits[n_ood:],
        case["teacher_embedding"][n_ood:],
        student_embedding[n_ood:],
        labels[n_ood:],
    )
    losses = {
        "cls": F.cross_entropy(student_logits, labels),
        **terms,
        "od": o2dbd(case["teacher_logits"], student_logits, labels),
    }
    leaves = {"student_logits": student_logits, "student_embedding": student_embedding}
    return losses, leaves | {n: o2dbd.get_parameter(p) for n, p in HEADS.items()}


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest magnitude expected."""
    assert actual.shape == expected.shape
    actual, expected = actual.detach().double(), expected.detach().double()
    return ((actual - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("term", GRADIENTS)
def test_released_reproduces_recorded_value_and_gradients(name, term):
    case = load(name)
    losses, leaves = release(case)
    assert relative_error(losses[term], case[f"loss_{term}"]) <= 1e-10
    wanted = GRADIENTS[term]
    grads = torch.autograd.grad(losses[term], [leaves[leaf] for leaf in wanted])
    for leaf, grad in zip(wanted, grads, strict=True):
        assert relative_error(grad, case[f"grad_{term}__{leaf}"]) <= 1e-10, leaf


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_number_is_compared(name):
    recorded = {key for key in load(name) if key.startswith(("loss_", "grad_"))}
    compared = {f"loss_{term}" for term in GRADIENTS}
    compared |= {f"grad_{term}__{leaf}" for term, leaves in GRADIENTS.items() for leaf in leaves}
    assert recorded == compared


def naive_kl(case: Case, leaves: dict[str, Tensor]) -> Tensor:
    n_ood = int(case["n_ood"])
    return naive.label_space_kl(
        case["teacher_logits"][n_ood:],
        leaves["student_logits"][n_ood:],
        case["seen_classes"],
        form="double_softmax",
    )


def naive_be(case: Case, leaves: dict[str, Tensor]) -> Tensor:
    n_ood, labels = int(case["n_ood"]), case["labels"][int(case["n_ood"]) :].tolist()
    return naive.relation_loss(
        case["teacher_embedding"][n_ood:],
        leaves["student_embedding"][n_ood:],
        torch.tensor([[a == b for b in labels] for a in labels]),
        "bce_with_logits",
    )


def naive_od(case: Case, leaves: dict[str, Tensor]) -> Tensor:
    return naive.o2dbd_released(
        case["teacher_logits"],
        leaves["student_logits"],
        case["labels"],
        case["seen_classes"],
        **{name: leaves[name] for name in HEADS},
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("term", "naive_loss", "value_tolerance"),
    [("kl", naive_kl, 1e-10), ("be", naive_be, 1e-6), ("od", naive_od, 1e-6)],
)
def test_released_equals_loop_on_made_up_data(
    seed: int,
    term: str,
    naive_loss: Callable[[Case, dict[str, Tensor]], Tensor],
    value_tolerance: float,
):
    """The relation matrix is float32 in the released code, and so are the values with it."""
    case = made_up(seed)
    losses, leaves = release(case)
    expected = naive_loss(case, leaves)
    assert relative_error(losses[term], expected) <= value_tolerance
    wanted = [leaves[leaf] for leaf in GRADIENTS[term]]
    actual_grads = torch.autograd.grad(losses[term], wanted)
    expected_grads = torch.autograd.grad(expected, wanted)
    for actual, wanted_grad in zip(actual_grads, expected_grads, strict=True):
        assert relative_error(actual, wanted_grad) <= 1e-10


def test_default_is_not_the_released_preset():
    """The defects are reproduced by the preset alone."""
    case = made_up(0)
    released = release(case)[0]
    inputs = [case["teacher_logits"], case["student_logits"]]
    embeddings = [case["teacher_embedding"], case["student_embedding"]]
    terms = ID2SDLoss(case["seen_classes"]).terms(*inputs, *embeddings, case["labels"])
    assert terms["kl"] > 10 * released["kl"]
    assert terms["kl"].dtype == terms["be"].dtype == torch.float64
    assert released["be"].dtype == released["od"].dtype == torch.float32
