"""cosine_matrix and relation_loss against loops over pairs, and what the forms promise."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from d3_plugin.errors import InputError
from d3_plugin.functional import cosine_matrix, relation_loss
from tests.functional import naive

FORMS = ["contrastive", "bce", "bce_with_logits"]
OPTIONS = [  # every form with each option it has
    ("contrastive", {"temperature": 0.1}),
    ("contrastive", {"temperature": 2.0}),
    ("bce", {"rescale": True}),
    ("bce", {"rescale": False}),
    ("bce_with_logits", {"rescale": True}),
    ("bce_with_logits", {"rescale": False}),
]
SHAPES = [(1, 1, 2), (1, 4, 3), (5, 3, 2), (6, 6, 8)]  # N, M, K
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
DTYPES = list(TOLERANCE)
HALVES = [torch.bfloat16, torch.float16]

every_form = pytest.mark.parametrize("form", FORMS)
every_option = pytest.mark.parametrize(("form", "options"), OPTIONS)
few_examples = settings(max_examples=30, deadline=None)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
finite = st.floats(-100, 100, width=32)


def random_rows(n: int, k: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, k, generator=generator, dtype=torch.float64).to(dtype)


def random_problem(
    n: int, m: int, k: int, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    same = random_rows(n, m, seed + 200) > 0.3
    return random_rows(n, k, seed, dtype), random_rows(m, k, seed + 100, dtype), same


def same_class(labels: Tensor) -> Tensor:
    return labels[:, None] == labels[None, :]


def gradients(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, inputs))


def value_tolerance(form: str, dtype: torch.dtype) -> float:
    return 1e-6 if form == "bce_with_logits" else TOLERANCE[dtype]  # its value is float32


# --- cosine_matrix


@every_dtype
@pytest.mark.parametrize("shape", SHAPES)
def test_cosine_equals_loop(dtype, shape):
    for seed in range(3):
        rows, columns, _ = random_problem(*shape, seed=seed, dtype=dtype)
        cosine = cosine_matrix(rows, columns)
        assert cosine.dtype == dtype
        tol = TOLERANCE[dtype]
        expected = naive.cosine_matrix(rows, columns)
        torch.testing.assert_close(cosine.double(), expected, rtol=tol, atol=tol)


def test_cosine_by_hand():
    rows = torch.tensor([[3.0, 4.0], [0.0, -2.0]])
    columns = torch.tensor([[1.0, 0.0], [0.0, 5.0], [-6.0, -8.0]])
    expected = torch.tensor([[0.6, 0.8, -1.0], [0.0, -1.0, 0.8]])
    torch.testing.assert_close(cosine_matrix(rows, columns), expected)


def test_cosine_gradcheck():
    inputs = (random_rows(3, 4).requires_grad_(), random_rows(5, 4, 1).requires_grad_())
    assert torch.autograd.gradcheck(cosine_matrix, inputs)


@pytest.mark.parametrize("dtype", [*DTYPES, *HALVES])
def test_zero_row_has_cosine_zero_and_gradient_zero(dtype):
    rows, columns = random_rows(4, 3, dtype=dtype), random_rows(5, 3, 1, dtype=dtype)
    rows[1], columns[2] = 0, 0
    rows.requires_grad_(), columns.requires_grad_()
    cosine = cosine_matrix(rows, columns)
    assert (cosine[1] == 0).all()
    assert (cosine[:, 2] == 0).all()
    grad_rows, grad_columns = gradients(cosine.square().sum() + cosine.sum(), rows, columns)
    assert (grad_rows[1] == 0).all()
    assert (grad_columns[2] == 0).all()
    assert grad_rows.isfinite().all()
    assert grad_columns.isfinite().all()
    assert (grad_rows[0] != 0).any()


def test_dead_rows_do_not_change_the_gradient_of_the_others():
    rows, columns = random_rows(3, 4), random_rows(3, 4, 1)
    with_dead = torch.cat([rows, torch.zeros(1, 4)]).requires_grad_()
    alone = rows.clone().requires_grad_()
    (grad,) = gradients(cosine_matrix(with_dead, columns).sum(), with_dead)
    (expected,) = gradients(cosine_matrix(alone, columns).sum(), alone)
    torch.testing.assert_close(grad[:3], expected)


@few_examples
@given(
    rows=arrays(np.float32, (3, 4), elements=finite),
    columns=arrays(np.float32, (5, 4), elements=finite),
)
def test_cosine_stays_in_its_range_and_is_symmetric(rows, columns):
    rows, columns = torch.from_numpy(rows), torch.from_numpy(columns)
    cosine = cosine_matrix(rows, columns)
    assert (cosine.abs() <= 1 + 1e-6).all()
    torch.testing.assert_close(cosine, cosine_matrix(columns, rows).T, rtol=0, atol=1e-6)


@few_examples
@given(
    rows=arrays(np.float64, (4, 3), elements=st.floats(0.1, 10)),
    scales=arrays(np.float64, (4, 1), elements=st.floats(0.01, 1000)),
)
def test_cosine_ignores_length_but_not_sign(rows, scales):
    rows, scales = torch.from_numpy(rows), torch.from_numpy(scales)
    cosine = cosine_matrix(rows, rows)
    torch.testing.assert_close(cosine_matrix(rows * scales, rows), cosine)
    torch.testing.assert_close(cosine_matrix(-rows * scales, rows), -cosine)
    torch.testing.assert_close(cosine.diagonal(), torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("dtype", HALVES)
def test_autocast_does_not_change_cosine(dtype):
    rows, columns, _ = random_problem(6, 6, 8, dtype=torch.float32)
    with torch.autocast("cpu", dtype=dtype):
        inside = cosine_matrix(rows, columns)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, cosine_matrix(rows, columns), rtol=1e-6, atol=1e-6)


def test_cosine_rejects_other_widths():
    with pytest.raises(InputError, match="rows are 3 wide, columns 4; both must live in the same"):
        cosine_matrix(torch.zeros(2, 3), torch.zeros(2, 4))


@pytest.mark.parametrize("shape", [(), (3,), (3, 0), (2, 3, 4)])
def test_cosine_rejects_shape(shape):
    with pytest.raises(InputError, match=r"rows must be \(N, K\) with K > 0"):
        cosine_matrix(torch.zeros(shape), torch.zeros(2, 3))
    with pytest.raises(InputError, match=r"columns must be \(N, K\) with K > 0"):
        cosine_matrix(torch.zeros(2, 3), torch.zeros(shape))


def test_cosine_lists_every_problem_of_a_matrix():
    with pytest.raises(InputError) as caught:
        cosine_matrix(torch.zeros(2, 3, 4, dtype=torch.int32), torch.zeros(2, 4))
    message = str(caught.value)
    assert message.startswith("cosine_matrix: 2 problems:")
    assert "rows must be (N, K) with K > 0, got (2, 3, 4)" in message
    assert "rows must be floating point, got torch.int32" in message


# --- relation_loss


@every_option
@every_dtype
@pytest.mark.parametrize("shape", SHAPES)
def test_relation_equals_loop(form, options, dtype, shape):
    for seed in range(3):
        rows, columns, same = random_problem(*shape, seed=seed, dtype=dtype)
        loss = relation_loss(rows, columns, same, form, **options)
        expected = naive.relation_loss(rows, columns, same, form, **options)
        assert loss.shape == ()
        tol = value_tolerance(form, dtype)
        torch.testing.assert_close(loss.double(), expected, rtol=tol, atol=tol)


@every_option
@pytest.mark.parametrize("shape", SHAPES)
def test_relation_gradient_equals_loop(form, options, shape):
    rows, columns, same = random_problem(*shape, seed=3)
    same[0, 0] = True  # at least one positive
    rows.requires_grad_(), columns.requires_grad_()
    actual = gradients(relation_loss(rows, columns, same, form, **options), rows, columns)
    expected = gradients(naive.relation_loss(rows, columns, same, form, **options), rows, columns)
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == torch.float64
        torch.testing.assert_close(a, e, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("form", "options"), [pair for pair in OPTIONS if pair[0] != "bce_with_logits"]
)
def test_relation_gradcheck(form, options):
    """bce_with_logits has a float32 value; the loop's gradient is its check."""
    rows, columns, same = random_problem(4, 3, 5)
    rows.requires_grad_(), columns.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda r, c: relation_loss(r, c, same, form, **options), (rows, columns)
    )


@pytest.mark.parametrize(
    ("form", "options", "expected"),
    [
        ("contrastive", {"temperature": 1.0}, math.log(1 + math.exp(-1))),
        ("contrastive", {"temperature": 0.1}, math.log(1 + math.exp(-10))),
        ("bce", {"rescale": False}, 1.0000005e-6),
        ("bce", {"rescale": True}, (1e-6 + math.log(2)) / 2),
        ("bce_with_logits", {"rescale": True}, (0.3132617 + 0.9740770) / 2),
        ("bce_with_logits", {"rescale": False}, (0.3132617 + 0.6931472) / 2),
    ],
)
def test_perfect_match_by_hand(form, options, expected):
    """Cosine 1 within each class and 0 between: what the best student pays."""
    eye = torch.eye(2, dtype=torch.float64)
    loss = relation_loss(eye, eye, eye.bool(), form, **options)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_contrastive_weighs_rows_equally_whatever_their_positives():
    """Row 0: log-softmax (0, -1) - log(1 + 1/e), both positive; row 1: only its better column."""
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    same = torch.tensor([[True, True], [False, True]])
    normaliser = math.log(1 + math.exp(-1))
    loss = relation_loss(rows, rows, same, temperature=1.0)
    assert loss.item() == pytest.approx((0.5 + normaliser + normaliser) / 2)


def test_rows_without_positive_do_not_count():
    rows, columns, same = random_problem(6, 4, 3)
    same[[1, 4]] = False
    same[[0, 2, 3, 5], 0] = True
    keep = [0, 2, 3, 5]
    torch.testing.assert_close(
        relation_loss(rows, columns, same), relation_loss(rows[keep], columns, same[keep])
    )


def test_no_positive_at_all_costs_nothing_and_pulls_nowhere():
    rows, columns, _ = random_problem(3, 4, 2)
    rows.requires_grad_()
    loss = relation_loss(rows, columns, torch.zeros(3, 4, dtype=torch.bool))
    assert loss.item() == 0
    assert (gradients(loss, rows)[0] == 0).all()


@every_option
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("shape", [(0, 0, 3), (0, 4, 3), (4, 0, 3), (1, 1, 3), (5, 4, 3)])
def test_relation_and_gradient_are_finite(form, options, dtype, shape):
    rows, columns, same = random_problem(*shape)
    everything, nothing = torch.ones_like(same), torch.zeros_like(same)
    for relation, size in product([same, everything, nothing], [0.0, 1.0, 1e4]):
        r = (size * rows).to(dtype).requires_grad_()
        c = (size * columns).to(dtype).requires_grad_()
        loss = relation_loss(r, c, relation, form, **options)
        assert loss.isfinite()
        assert all(g.isfinite().all() for g in gradients(loss, r, c))
        if same.numel() == 0:
            assert loss.item() == 0


@every_form
def test_equal_rows_everywhere_stay_finite(form):
    """Cosines of exactly 1 and -1 against the wrong relation: the logarithm's worst case."""
    rows = torch.ones(3, 4).requires_grad_()
    columns = torch.cat([torch.ones(1, 4), -torch.ones(1, 4)])
    same = torch.tensor([[False, True]] * 3)
    loss = relation_loss(rows, columns, same, form, rescale=False)
    assert loss.isfinite()
    assert gradients(loss, rows)[0].isfinite().all()


@every_option
@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_is_computed_in_float32(form, options, dtype):
    rows, columns, same = random_problem(5, 4, 3, dtype=dtype)
    loss = relation_loss(rows, columns, same, form, **options)
    assert loss.dtype == torch.float32
    expected = relation_loss(rows.float(), columns.float(), same, form, **options)
    torch.testing.assert_close(loss, expected)


@every_option
@pytest.mark.parametrize("dtype", HALVES)
def test_autocast_does_not_change_relation(form, options, dtype):
    rows, columns, same = random_problem(5, 4, 3, dtype=torch.float32)
    rows.requires_grad_()
    expected = relation_loss(rows, columns, same, form, **options)
    with torch.autocast("cpu", dtype=dtype):
        inside = relation_loss(rows, columns, same, form, **options)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        gradients(inside, rows)[0], gradients(expected, rows)[0], rtol=1e-5, atol=1e-6
    )


@every_form
def test_relation_of_noncontiguous_inputs(form):
    base, same = random_rows(8, 6), random_rows(12, 12, 1) > 0
    for rows, columns, relation in [
        (base.T, base.T, same[::2, ::2]),
        (base[::2], base[1::2], same.T[:4, :4]),
        (base[:, ::2], base[:, 1::2], same[:8, 4:]),
    ]:
        assert not any(x.is_contiguous() for x in (rows, columns, relation))
        torch.testing.assert_close(
            relation_loss(rows, columns, relation, form),
            relation_loss(rows.contiguous(), columns.contiguous(), relation.contiguous(), form),
        )


@every_option
@few_examples
@given(data=st.data(), seed=st.integers(0, 999))
def test_permuting_the_batch_changes_nothing(form, options, data, seed):
    rows, columns, same = random_problem(5, 4, 3, seed=seed)
    p, q = data.draw(st.permutations(range(5))), data.draw(st.permutations(range(4)))
    torch.testing.assert_close(
        relation_loss(rows[p], columns[q], same[p][:, q], form, **options),
        relation_loss(rows, columns, same, form, **options),
        rtol=1e-6 if form == "bce_with_logits" else 1e-12,
        atol=0,
    )


@every_option
@few_examples
@given(seed=st.integers(0, 999), classes=st.integers(2, 4))
def test_aligned_classes_cost_less_than_mixed_up_ones(form, options, seed, classes):
    labels = torch.arange(classes).repeat(3)
    centres = 3 * torch.eye(classes, dtype=torch.float64)
    rows = centres[labels] + 0.2 * random_rows(len(labels), classes, seed)
    columns = centres[labels] + 0.2 * random_rows(len(labels), classes, seed + 1)
    aligned = relation_loss(rows, columns, same_class(labels), form, **options)
    mixed_up = labels[:, None] == ((labels + 1) % classes)[None, :]
    assert aligned < relation_loss(rows, columns, mixed_up, form, **options)


@every_form
def test_value_dtype(form):
    for dtype in DTYPES:
        rows, columns, same = random_problem(5, 4, 3, dtype=dtype)
        expected = torch.float32 if form == "bce_with_logits" else dtype
        assert relation_loss(rows, columns, same, form).dtype == expected


def test_mixed_dtypes_use_the_wider():
    rows, columns, same = random_problem(5, 4, 3)
    loss = relation_loss(rows.float(), columns, same)
    assert loss.dtype == torch.float64
    torch.testing.assert_close(loss, relation_loss(rows.float().double(), columns, same))


def test_relation_rejects_unknown_form():
    with pytest.raises(InputError, match=r"form is one of contrastive, bce, bce_with_logits; got"):
        relation_loss(torch.ones(2, 2), torch.ones(2, 2), torch.eye(2).bool(), "cosine")


@pytest.mark.parametrize("temperature", [0.0, -0.1, math.inf, math.nan])
def test_relation_rejects_temperature(temperature):
    with pytest.raises(InputError, match="relation_loss: temperature must be above 0 and finite"):
        relation_loss(
            torch.ones(2, 2), torch.ones(2, 2), torch.eye(2).bool(), temperature=temperature
        )


@pytest.mark.parametrize("same", [torch.eye(2), torch.ones(2, 3).bool(), torch.ones(2).bool()])
def test_relation_rejects_same(same):
    with pytest.raises(InputError, match=r"same must be a bool \(2, 2\) matrix, got"):
        relation_loss(torch.ones(2, 2), torch.ones(2, 2), same)


# --- memory


class LargestTensor(TorchDispatchMode):
    """Notes the number of elements of the largest tensor any operator returns."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0
        self.operators = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.elements = max(self.elements, leaf.numel())
                self.operators.add(func.overloadpacket.__name__)
        return result


def test_recorder_sees_forward_and_backward():
    x = torch.ones(3, requires_grad=True)
    with LargestTensor() as seen:
        x[:, None].expand(3, 5).clone().sum().backward()
    assert seen.elements == 15
    assert "ones_like" in seen.operators  # the seed of backward


@every_form
@pytest.mark.parametrize(("batch", "width"), [(512, 512), (512, 32), (64, 512)])
def test_no_temporary_exceeds_the_batch_or_the_relation_matrix(form, batch, width):
    rows = random_rows(batch, width, dtype=torch.float32).requires_grad_()
    columns = random_rows(batch, width, 1, dtype=torch.float32).requires_grad_()
    same = same_class(torch.arange(batch) % 7)
    with LargestTensor() as seen:
        relation_loss(rows, columns, same, form).backward()
    assert rows.grad is not None
    assert columns.grad is not None
    assert "mm" in seen.operators
    assert seen.elements == max(batch * batch, batch * width)


def test_nan_gives_nan_and_no_error() -> None:
    """As in a host that diverges; PyTorch's cross-entropy would end the process on a GPU."""
    rows = torch.tensor([[1.0, 0.0], [float("nan"), 1.0]], requires_grad=True)
    same = torch.eye(2, dtype=torch.bool)
    for form in ("contrastive", "bce", "bce_with_logits"):
        assert relation_loss(rows, rows, same, form).isnan(), form
