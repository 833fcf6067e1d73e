"""cosine_matrix against a loop over pairs, and what a cosine promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from d3_plugin.errors import InputError
from d3_plugin.functional import cosine_matrix
from tests.functional import naive
from tests.functional.problems import SHAPES, gradients, random_problem, random_rows

few_examples = settings(max_examples=30, deadline=None)
finite = st.floats(-100, 100, width=32)


@pytest.mark.parametrize("shape", SHAPES)
def test_cosine_equals_loop(device, dtype, tolerance, shape):
    for seed in range(3):
        rows, columns, _ = random_problem(*shape, seed=seed, dtype=dtype, device=device)
        cosine = cosine_matrix(rows, columns)
        assert cosine.dtype == dtype
        assert cosine.device.type == device.type
        expected = naive.cosine_matrix(rows, columns)
        torch.testing.assert_close(cosine.double().cpu(), expected, rtol=tolerance, atol=tolerance)


def test_cosine_by_hand():
    rows = torch.tensor([[3.0, 4.0], [0.0, -2.0]])
    columns = torch.tensor([[1.0, 0.0], [0.0, 5.0], [-6.0, -8.0]])
    expected = torch.tensor([[0.6, 0.8, -1.0], [0.0, -1.0, 0.8]])
    torch.testing.assert_close(cosine_matrix(rows, columns), expected)


def test_cosine_gradcheck(device):
    inputs = [random_rows(n, 4, n, device=device).requires_grad_() for n in (3, 5)]
    assert torch.autograd.gradcheck(cosine_matrix, inputs)


def test_zero_row_has_cosine_zero_and_gradient_zero(device, any_dtype):
    rows, columns, _ = random_problem(4, 5, 3, dtype=any_dtype, device=device)
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


def test_autocast_does_not_change_cosine(device, half):
    rows, columns, _ = random_problem(6, 6, 8, dtype=torch.float32, device=device)
    with torch.autocast(device.type, dtype=half):
        inside = cosine_matrix(rows, columns)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, cosine_matrix(rows, columns), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(), (3,), (2, 4), (2, 3, 4)])
def test_cosine_refuses_another_shape(shape):
    with pytest.raises(InputError, match=r"\(2, 3\)"):
        cosine_matrix(torch.zeros(shape), torch.zeros(2, 3))
    with pytest.raises(InputError, match=r"\(2, 3\)"):
        cosine_matrix(torch.zeros(2, 3), torch.zeros(shape))
