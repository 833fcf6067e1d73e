"""relation_loss against a loop over pairs, and what its forms promise."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from d3_plugin.errors import InputError
from d3_plugin.functional import relation_loss
from tests.functional import naive
from tests.functional.problems import SHAPES, gradients, random_problem, random_rows

FORMS = ["contrastive", "bce", "bce_with_logits"]
OPTIONS = [  # every form with each option it has
    ("contrastive", {"temperature": 0.1}),
    ("contrastive", {"temperature": 2.0}),
    ("bce", {"rescale": True}),
    ("bce", {"rescale": False}),
    ("bce_with_logits", {"rescale": True}),
    ("bce_with_logits", {"rescale": False}),
]
every_form = pytest.mark.parametrize("form", FORMS)
every_option = pytest.mark.parametrize(("form", "options"), OPTIONS)
few_examples = settings(max_examples=30, deadline=None)


@every_option
@pytest.mark.parametrize("shape", SHAPES)
def test_relation_equals_loop(form, options, device, dtype, tolerance, shape):
    for seed in range(3):
        rows, columns, same = random_problem(*shape, seed=seed, dtype=dtype, device=device)
        loss = relation_loss(rows, columns, same, form, **options)
        expected = naive.relation_loss(rows, columns, same, form, **options)
        assert loss.shape == ()
        assert loss.device.type == device.type
        tol = 1e-6 if form == "bce_with_logits" else tolerance  # its value is float32
        torch.testing.assert_close(loss.double().cpu(), expected, rtol=tol, atol=tol)


@every_option
@pytest.mark.parametrize("shape", SHAPES)
def test_relation_gradient_equals_loop(form, options, device, shape):
    rows, columns, same = random_problem(*shape, seed=3, device=device)
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
def test_relation_gradcheck(form, options, device):
    """bce_with_logits has a float32 value; the loop's gradient is its check."""
    rows, columns, same = random_problem(4, 3, 5, device=device)
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
@pytest.mark.parametrize("shape", [(0, 0, 3), (0, 4, 3), (4, 0, 3), (1, 1, 3), (5, 4, 3)])
def test_relation_and_gradient_are_finite(form, options, device, any_dtype, shape):
    rows, columns, same = random_problem(*shape, device=device)
    everything, nothing = torch.ones_like(same), torch.zeros_like(same)
    for relation, size in product([same, everything, nothing], [0.0, 1.0, 1e4]):
        r = (size * rows).to(any_dtype).requires_grad_()
        c = (size * columns).to(any_dtype).requires_grad_()
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
def test_half_precision_is_computed_in_float32(form, options, device, half):
    rows, columns, same = random_problem(5, 4, 3, dtype=half, device=device)
    loss = relation_loss(rows, columns, same, form, **options)
    assert loss.dtype == torch.float32
    expected = relation_loss(rows.float(), columns.float(), same, form, **options)
    torch.testing.assert_close(loss, expected)


@every_option
def test_autocast_does_not_change_relation(form, options, device, half):
    rows, columns, same = random_problem(5, 4, 3, dtype=torch.float32, device=device)
    rows.requires_grad_()
    expected = relation_loss(rows, columns, same, form, **options)
    with torch.autocast(device.type, dtype=half):
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
    aligned = relation_loss(rows, columns, labels[:, None] == labels, form, **options)
    mixed_up = labels[:, None] == ((labels + 1) % classes)[None, :]
    assert aligned < relation_loss(rows, columns, mixed_up, form, **options)


@every_form
def test_value_dtype(form, dtype):
    rows, columns, same = random_problem(5, 4, 3, dtype=dtype)
    expected = torch.float32 if form == "bce_with_logits" else dtype
    assert relation_loss(rows, columns, same, form).dtype == expected


def test_mixed_dtypes_use_the_wider():
    rows, columns, same = random_problem(5, 4, 3)
    loss = relation_loss(rows.float(), columns, same)
    assert loss.dtype == torch.float64
    torch.testing.assert_close(loss, relation_loss(rows.float().double(), columns, same))


@pytest.mark.parametrize(
    ("rows", "same", "form", "match"),
    [
        (torch.ones(2, 2), torch.eye(2).bool(), "cosine", "contrastive"),
        (torch.ones(2, 2), torch.eye(2), "bce", "bool"),
        (torch.ones(2, 2), torch.ones(2, 3).bool(), "bce", r"\(2, 3\)"),
        (torch.ones(2, 2), torch.ones(2).bool(), "bce", r"\(2,\)"),
        (torch.ones(2, 3), torch.eye(2).bool(), "bce", r"\(2, 3\)"),
        (torch.ones(2), torch.eye(2).bool(), "bce", r"\(2,\)"),
    ],
)
def test_relation_refuses(rows, same, form, match):
    with pytest.raises(InputError, match=match):
        relation_loss(rows, torch.ones(2, 2), same, form)


def test_nan_gives_nan_and_no_error() -> None:
    """As in a host that diverges; PyTorch's cross-entropy would end the process on a GPU."""
    rows = torch.tensor([[1.0, 0.0], [float("nan"), 1.0]], requires_grad=True)
    same = torch.eye(2, dtype=torch.bool)
    for form in ("contrastive", "bce", "bce_with_logits"):
        assert relation_loss(rows, rows, same, form).isnan(), form
