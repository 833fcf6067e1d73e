"""id_score and id_confidence against loops over rows, and what the kinds promise."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from d3_plugin.errors import InputError
from d3_plugin.functional import id_confidence, id_score
from tests.functional import naive

KINDS = ["max_softmax", "log_max_softmax", "max_logit", "energy", "entropy"]
SHAPES = [(1, 1), (1, 4), (7, 2), (5, 9)]

every_kind = pytest.mark.parametrize("kind", KINDS)
few_examples = settings(max_examples=30, deadline=None)
logit_matrices = arrays(
    np.float64,
    st.tuples(st.integers(1, 5), st.integers(2, 6)),
    elements=st.floats(-20, 20, width=32),
)


def random_logits(
    rows: int,
    classes: int,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return logits.to(device, dtype)


def assert_near(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    actual, expected = actual.double().cpu(), expected.double().cpu()
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@every_kind
def test_score_equals_loop(kind, device, dtype, tolerance):
    for shape, temperature, seed in product(SHAPES, (1.0, 0.3, 4.0), range(3)):
        logits = random_logits(*shape, seed=seed, dtype=dtype, device=device)
        score = id_score(logits, kind, temperature)
        assert score.dtype == dtype
        assert score.device.type == device.type
        assert_near(score, naive.id_score(logits, kind, temperature), tolerance)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("max_softmax", 0.75),
        ("log_max_softmax", math.log(0.75)),
        ("max_logit", math.log(3)),
        ("energy", 2 * math.log(4)),
        ("entropy", 0.75 * math.log(0.75) + 0.25 * math.log(0.25)),
    ],
)
def test_score_by_hand(kind, expected):
    """At T = 2 these logits give the probabilities 3/4 and 1/4."""
    logits = torch.tensor([[2 * math.log(3), 0.0]], dtype=torch.float64)
    assert id_score(logits, kind, temperature=2.0).item() == pytest.approx(expected, abs=1e-12)


@every_kind
def test_score_gradcheck(kind, device):
    logits = random_logits(4, 3, device=device).requires_grad_()
    for temperature in (1.0, 0.7):
        assert torch.autograd.gradcheck(id_score, (logits, kind, temperature))


@every_kind
def test_score_and_gradient_are_finite(kind, device):
    signs, columns = torch.tensor([1.0, -1.0, 1.0, -1.0, -1.0, -1.0]), torch.tensor([1.0, -1, 0])
    dtypes = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
    for rows, classes, size, dtype in product((0, 1, 6), (1, 3), (0.0, 1.0, 1e4), dtypes):
        logits = (size * signs[:rows, None] * columns[:classes]).to(device, dtype).requires_grad_()
        score = id_score(logits, kind)
        score.sum().backward()
        case = (rows, classes, size, dtype)
        assert score.shape == (rows,), case
        assert score.isfinite().all(), case
        assert logits.grad.shape == (rows, classes), case
        assert logits.grad.isfinite().all(), case


def test_half_precision_is_computed_in_float32(device, half):
    logits = random_logits(6, 5, dtype=half, device=device)
    for kind in KINDS:
        score = id_score(logits, kind)
        assert score.dtype == torch.float32, kind
        assert torch.allclose(score, id_score(logits.float(), kind), 1.3e-6, 1e-5), kind


def test_autocast_does_not_change_score(device, half):
    logits = random_logits(6, 5, dtype=torch.float32, device=device)
    for kind in KINDS:
        with torch.autocast(device.type, dtype=half):
            inside = id_score(logits, kind)
        assert inside.dtype == torch.float32, kind
        assert torch.allclose(inside, id_score(logits, kind), 1e-6, 1e-6), kind


@every_kind
def test_score_of_noncontiguous_logits(kind):
    base = random_logits(8, 6)
    for view in (base.T, base[:, ::2], base[::3], base[1:, 1:4]):
        assert not view.is_contiguous()
        torch.testing.assert_close(id_score(view, kind), id_score(view.contiguous(), kind))


@every_kind
@few_examples
@given(values=logit_matrices, more=st.floats(0.5, 10))
def test_more_peaked_row_scores_higher(kind, values, more):
    logits = torch.from_numpy(values)
    peaked = logits.clone()
    peaked[torch.arange(len(logits)), logits.argmax(dim=1)] += more
    gain = id_score(peaked, kind, 4.0) - id_score(logits, kind, 4.0)
    assert (gain > 0).all()


@pytest.mark.parametrize("kind", ["max_softmax", "log_max_softmax", "entropy"])
@few_examples
@given(values=logit_matrices, seed=st.integers(0, 99))
def test_constant_of_a_row_leaves_softmax_scores_unchanged(kind, values, seed):
    logits = torch.from_numpy(values)
    shift = 10 * random_logits(len(logits), 1, seed=seed)
    assert_near(id_score(logits + shift, kind), id_score(logits, kind), 1e-9)


@pytest.mark.parametrize(("kind", "divisor"), [("max_logit", 2.0), ("energy", 1.0)])
@few_examples
@given(values=logit_matrices, shift=st.floats(-5, 5))
def test_constant_of_a_row_moves_logit_scores(kind, divisor, values, shift):
    logits = torch.from_numpy(values)
    moved = id_score(logits + shift, kind, temperature=2.0)
    expected = id_score(logits, kind, temperature=2.0) + shift / divisor
    torch.testing.assert_close(moved, expected)


@every_kind
@few_examples
@given(values=logit_matrices, data=st.data())
def test_score_follows_its_row_and_ignores_class_order(kind, values, data):
    logits = torch.from_numpy(values)
    rows = data.draw(st.permutations(range(logits.shape[0])))
    columns = data.draw(st.permutations(range(logits.shape[1])))
    moved = id_score(logits[rows][:, columns], kind)
    torch.testing.assert_close(moved, id_score(logits, kind)[rows])


@few_examples
@given(values=logit_matrices)
def test_scores_stay_in_their_range(values):
    logits = torch.from_numpy(values)
    classes = logits.shape[1]
    largest = id_score(logits, "max_softmax")
    entropy = id_score(logits, "entropy")
    assert ((largest >= 1 / classes - 1e-12) & (largest <= 1 + 1e-12)).all()
    assert ((entropy >= -math.log(classes) - 1e-12) & (entropy <= 1e-12)).all()


@pytest.mark.parametrize("shape", [(), (3,), (3, 0), (2, 3, 4)])
def test_score_refuses_a_shape(shape):
    with pytest.raises(InputError, match=r"got .*\(" + ", ".join(map(str, shape))):
        id_score(torch.zeros(shape))


def test_score_refuses_integers_and_an_unknown_kind():
    with pytest.raises(InputError, match="int64"):
        id_score(torch.zeros(3, 2, dtype=torch.long))
    with pytest.raises(InputError, match=r"max_softmax.*got 'msp'"):
        id_score(torch.zeros(2, 2), "msp")


# --- id_confidence


def parameters(weight: float = 1.3, offset: float = -0.4, **options):
    options = {"dtype": torch.float64} | options
    return torch.tensor([weight], **options), torch.tensor([offset], **options)


def test_confidence_equals_loop(device, dtype, tolerance):
    constants = [(1.0, 0.0), (1.3, -0.4), (-2.0, 3.0)]
    for rows, (weight, offset), seed in product((1, 5), constants, range(3)):
        score = random_logits(rows, 1, seed=seed, dtype=dtype, device=device)[:, 0]
        w, b = parameters(weight, offset, dtype=dtype, device=device)
        pair = id_confidence(score, w, b)
        assert pair.dtype == dtype
        assert_near(pair, naive.id_confidence(score, w, b), tolerance)


def test_confidence_gradcheck():
    score = random_logits(4, 1)[:, 0].requires_grad_()
    w, b = (p.requires_grad_() for p in parameters())
    assert torch.autograd.gradcheck(id_confidence, (score, w, b))


def test_confidence_and_gradient_are_finite(device, any_dtype):
    for score in ([], [0.0], [1e4, -1e4]):
        s = torch.tensor(score, dtype=any_dtype, device=device, requires_grad=True)
        w, b = (p.requires_grad_() for p in parameters(dtype=any_dtype, device=device))
        pair = id_confidence(s, w, b)
        pair[:, 0].sum().backward()
        assert pair.shape == (len(score), 2)
        assert pair.isfinite().all(), score
        assert all(t.grad.isfinite().all() for t in (s, w, b)), score


def test_autocast_does_not_change_confidence(device, half):
    score = random_logits(6, 1, dtype=torch.float32, device=device)[:, 0]
    w, b = parameters(dtype=torch.float32, device=device)
    with torch.autocast(device.type, dtype=half):
        inside = id_confidence(score, w, b)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, id_confidence(score, w, b), rtol=1e-6, atol=1e-6)


def test_small_side_of_confidence_is_not_rounded_to_zero():
    pair = id_confidence(torch.tensor([40.0, -40.0]), torch.ones(1), torch.zeros(1))
    assert pair[0, 1].item() == pytest.approx(math.exp(-40), rel=1e-5, abs=0)
    assert pair[1, 0].item() == pytest.approx(math.exp(-40), rel=1e-5, abs=0)


def test_confidence_of_strided_score():
    score = random_logits(6, 2)[:, 1]
    assert not score.is_contiguous()
    w, b = parameters()
    torch.testing.assert_close(id_confidence(score, w, b), id_confidence(score.contiguous(), w, b))


@few_examples
@given(
    score=st.floats(-5, 5),
    more=st.floats(0.01, 5),
    weight=st.floats(0.1, 3),
    offset=st.floats(-3, 3),
)
def test_confidence_sums_to_one_and_grows_with_score(score, more, weight, offset):
    pair = id_confidence(
        torch.tensor([score, score + more], dtype=torch.float64), *parameters(weight, offset)
    )
    torch.testing.assert_close(pair.sum(dim=1), torch.ones(2, dtype=torch.float64))
    assert pair[1, 0] > pair[0, 0]


@pytest.mark.parametrize(
    ("score", "weight", "match"),
    [
        (torch.zeros(2, 3), torch.ones(1), r"\(2, 3\)"),
        (torch.zeros(2).long(), torch.ones(1), "torch.int64"),
        (torch.zeros(2), torch.ones(3), r"\(3,\)"),
    ],
)
def test_confidence_refuses(score, weight, match):
    with pytest.raises(InputError, match=match):
        id_confidence(score, weight, torch.zeros(1))
