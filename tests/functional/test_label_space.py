"""label_space_kl against a loop over rows, and the properties of a divergence."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from d3_plugin.errors import InputError
from d3_plugin.functional import label_space_kl
from tests.functional import naive

FORMS = ["logits", "double_softmax"]
SHAPES = [(1, 1, 1), (1, 2, 5), (6, 3, 3), (5, 4, 9)]  # N, S, C

every_form = pytest.mark.parametrize("form", FORMS)
few_examples = settings(max_examples=30, deadline=None)
logit_rows = arrays(np.float64, (4, 3), elements=st.floats(-5, 5, width=32))


def random_problem(
    n: int,
    s: int,
    c: int,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    teacher = 2 * torch.randn(n, s, generator=generator, dtype=torch.float64)
    student = 2 * torch.randn(n, c, generator=generator, dtype=torch.float64)
    seen = torch.randperm(c, generator=generator)[:s]
    return teacher.to(device, dtype), student.to(device, dtype), seen.to(device)


@every_form
@pytest.mark.parametrize("temperature", [1.0, 0.5, 4.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_kl_equals_loop(form, device, dtype, tolerance, temperature, shape):
    for seed in range(3):
        problem = random_problem(*shape, seed=seed, dtype=dtype, device=device)
        kl = label_space_kl(*problem, temperature, form)
        assert kl.shape == ()
        assert kl.dtype == dtype
        assert kl.device.type == device.type
        expected = naive.label_space_kl(*problem, temperature, form)
        torch.testing.assert_close(kl.double().cpu(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("temperature", "factor"), [(1.0, 1.0), (2.0, 4.0)])
def test_kl_by_hand(temperature, factor):
    """Teacher (3/4, 1/4), student (1/2, 1/2) on columns 2 and 0; column 1 does not matter."""
    teacher = temperature * torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)
    student = torch.tensor([[0.0, 99.0, 0.0]], dtype=torch.float64)
    kl = label_space_kl(teacher, student, torch.tensor([2, 0]), temperature)
    expected = factor * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert kl.item() == pytest.approx(expected, abs=1e-12)


def test_seen_classes_are_taken_in_their_order():
    teacher = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)
    student = torch.tensor([[0.0, 7.0, math.log(3)]], dtype=torch.float64)
    assert label_space_kl(teacher, student, torch.tensor([2, 0])).item() == pytest.approx(0)
    assert label_space_kl(teacher, student, torch.tensor([0, 2])).item() == pytest.approx(
        0.5 * math.log(3)
    )


@every_form
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_kl_gradcheck(form, device, temperature):
    teacher, student, seen = random_problem(3, 4, 6, device=device)
    teacher.requires_grad_(), student.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda t, s: label_space_kl(t, s, seen, temperature, form), (teacher, student)
    )


@every_form
def test_unseen_columns_get_no_gradient(form):
    teacher, student, seen = random_problem(5, 3, 6)
    student.requires_grad_()
    label_space_kl(teacher, student, seen, form=form).backward()
    unseen = [c for c in range(6) if c not in seen.tolist()]
    assert (student.grad[:, unseen] == 0).all()
    assert (student.grad[:, seen] != 0).all()


@every_form
@pytest.mark.parametrize("shape", [(0, 2, 3), (1, 2, 3), (5, 1, 1), (5, 2, 3)])
@pytest.mark.parametrize("size", [0.0, 1.0, 1e4])
def test_kl_and_gradient_are_finite(form, device, any_dtype, shape, size):
    teacher, student, seen = random_problem(*shape, device=device)
    teacher = (size * teacher.sign()).to(any_dtype).requires_grad_()
    student = (-size * student.sign()).to(any_dtype).requires_grad_()
    kl = label_space_kl(teacher, student, seen, form=form)
    kl.backward()
    assert kl.isfinite()
    assert teacher.grad.isfinite().all()
    assert student.grad.isfinite().all()
    if len(teacher) == 0 or size == 0:
        assert kl.item() == 0


def test_teacher_and_student_as_far_apart_as_float16_goes():
    teacher = torch.tensor([[1e4, -1e4]], dtype=torch.float16)
    student = torch.tensor([[-1e4, 1e4]], dtype=torch.float16, requires_grad=True)
    kl = label_space_kl(teacher, student, torch.tensor([0, 1]))
    kl.backward()
    assert kl.item() == pytest.approx(2e4, rel=1e-3)
    assert student.grad.tolist() == [[-1.0, 1.0]]


@every_form
def test_half_precision_is_computed_in_float32(form, device, half):
    teacher, student, seen = random_problem(6, 3, 5, dtype=half, device=device)
    kl = label_space_kl(teacher, student, seen, form=form)
    assert kl.dtype == torch.float32
    expected = label_space_kl(teacher.float(), student.float(), seen, form=form)
    torch.testing.assert_close(kl, expected)


@every_form
def test_autocast_does_not_change_kl(form, device, half):
    teacher, student, seen = random_problem(6, 3, 5, dtype=torch.float32, device=device)
    with torch.autocast(device.type, dtype=half):
        inside = label_space_kl(teacher, student, seen, form=form)
    assert inside.dtype == torch.float32
    expected = label_space_kl(teacher, student, seen, form=form)
    torch.testing.assert_close(inside, expected, rtol=1e-6, atol=1e-6)


@every_form
def test_kl_of_noncontiguous_inputs(form):
    teacher, student, seen = random_problem(8, 3, 6)
    seen_strided = torch.stack([seen, seen], dim=1)[:, 0]
    for t, s in [
        (teacher[::2], student[::2]),
        (teacher.T.contiguous().T, student.T.contiguous().T),
    ]:
        assert not t.is_contiguous()
        assert not seen_strided.is_contiguous()
        torch.testing.assert_close(
            label_space_kl(t, s, seen_strided, form=form),
            label_space_kl(t.contiguous(), s.contiguous(), seen, form=form),
        )


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_seen_classes_of_any_integer_type(dtype):
    teacher, student, seen = random_problem(4, 3, 6)
    torch.testing.assert_close(
        label_space_kl(teacher, student, seen.to(dtype)), label_space_kl(teacher, student, seen)
    )


@every_form
@few_examples
@given(teacher=logit_rows, student=logit_rows)
def test_kl_is_bounded_below_by_pinsker(form, teacher, student):
    """KL >= |p - q|²/2 in the 1-norm: at least 0, and above 0 wherever p and q differ."""
    teacher, student = torch.from_numpy(teacher), torch.from_numpy(student)
    kl = label_space_kl(teacher, student, torch.arange(3), form=form)
    for _ in range(1 if form == "logits" else 2):
        teacher, student = teacher.softmax(dim=1), student.softmax(dim=1)
    bound = ((teacher - student).abs().sum(dim=1).square() / 2).mean()
    assert kl >= bound - 1e-12


@every_form
@few_examples
@given(logits=logit_rows)
def test_kl_of_equal_logits_is_exactly_zero(form, logits):
    teacher = torch.from_numpy(logits)
    student = torch.cat([teacher.flip(1), teacher], dim=1).requires_grad_()
    kl = label_space_kl(teacher, student, torch.tensor([3, 4, 5]), form=form)
    kl.backward()
    assert kl.item() == 0
    assert student.grad.abs().max() < 1e-15


@every_form
@few_examples
@given(teacher=logit_rows, student=logit_rows, shifts=logit_rows)
def test_constants_of_rows_change_nothing(form, teacher, student, shifts):
    teacher, student, shifts = map(torch.from_numpy, (teacher, student, shifts))
    seen = torch.arange(3)
    shifted = label_space_kl(teacher + shifts[:, :1], student + shifts[:, 1:2], seen, form=form)
    expected = label_space_kl(teacher, student, seen, form=form)
    torch.testing.assert_close(shifted, expected, rtol=1e-10, atol=1e-12)


@every_form
@few_examples
@given(data=st.data(), seed=st.integers(0, 999))
def test_permuting_rows_or_classes_changes_nothing(form, data, seed):
    teacher, student, seen = random_problem(5, 3, 6, seed=seed)
    p, q = data.draw(st.permutations(range(5))), data.draw(st.permutations(range(3)))
    torch.testing.assert_close(
        label_space_kl(teacher[p][:, q], student[p], seen[q], form=form),
        label_space_kl(teacher, student, seen, form=form),
    )


def test_repeating_the_batch_keeps_the_mean():
    teacher, student, seen = random_problem(5, 3, 6)
    torch.testing.assert_close(
        label_space_kl(teacher.repeat(3, 1), student.repeat(3, 1), seen),
        label_space_kl(teacher, student, seen),
    )


def test_large_temperature_leaves_the_gradient_its_size():
    """T² KL(T) tends to the variance-like limit sum (dv)²/(2S) of centred logits."""
    teacher, student, seen = random_problem(5, 3, 6)
    difference = teacher - student[:, seen]
    centred = difference - difference.mean(dim=1, keepdim=True)
    limit = centred.square().sum(dim=1).mean() / (2 * 3)
    kl = label_space_kl(teacher, student, seen, temperature=1e4)
    assert kl.item() == pytest.approx(limit.item(), rel=1e-3)


def test_second_softmax_makes_the_term_nearly_zero():
    """Opposite logits cost 20 nats; after two softmaxes never more than tanh(1/2) = 0.46."""
    teacher = torch.tensor([[10.0, -10.0]], dtype=torch.float64)
    seen = torch.tensor([0, 1])
    assert label_space_kl(teacher, -teacher, seen).item() == pytest.approx(20, rel=1e-6)
    twice = label_space_kl(teacher, -teacher, seen, form="double_softmax").item()
    assert twice == pytest.approx(math.tanh(0.5), rel=1e-6)


@pytest.mark.parametrize(
    ("teacher", "student", "seen", "form", "match"),
    [
        (torch.zeros(3, 2), torch.zeros(3, 4), torch.arange(2), "softmax", "double_softmax"),
        (torch.zeros(3, 2), torch.zeros(3, 4), torch.arange(3), "logits", r"\(3,\)"),
        (torch.zeros(3, 2), torch.zeros(3, 4), torch.tensor(0), "logits", r"\(\)"),
        (torch.zeros(3, 2), torch.zeros(3, 4), torch.zeros(2, 1).long(), "logits", r"\(2, 1\)"),
        (torch.zeros(3, 2), torch.zeros(4, 4), torch.arange(2), "logits", r"\(3, 2\).*\(4, 4\)"),
        (torch.zeros(3, 2), torch.zeros(3), torch.arange(2), "logits", r"\(3,\)"),
        (torch.zeros(3, 2).int(), torch.zeros(3, 4), torch.arange(2), "logits", "torch.int32"),
    ],
)
def test_kl_refuses(teacher, student, seen, form, match):
    with pytest.raises(InputError, match=match):
        label_space_kl(teacher, student, seen, form=form)
