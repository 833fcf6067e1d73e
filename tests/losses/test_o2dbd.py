"""O2DBDLoss against a loop over pairs, and what it promises."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call

from d3_plugin.losses import O2DBDLoss
from tests.losses.o2dbd_problem import (
    CLASSES,
    OPTIONS,
    SEEN,
    every_option,
    make_loss,
    naive_loss,
    random_inputs,
)

few_examples = settings(max_examples=30, deadline=None)


def with_gradient(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (*(x.clone().requires_grad_() for x in inputs[:2]), inputs[2])


def gradients(value: Tensor, loss: O2DBDLoss, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """With respect to both logits and every parameter."""
    return list(torch.autograd.grad(value, [*inputs[:2], *loss.parameters()]))


@every_option
@pytest.mark.parametrize("rows", [1, 8])
def test_loss_equals_loop(options, device, dtype, tolerance, rows):
    for seed in range(3):
        loss = make_loss(seed, dtype, device, **options)
        inputs = random_inputs(rows, seed, dtype, device)
        value = loss(*inputs)
        float32_value = options.get("relation") == "bce_with_logits"
        assert value.shape == ()
        assert value.dtype == (torch.float32 if float32_value else dtype)
        assert value.device.type == device.type
        tol = 1e-6 if float32_value else tolerance
        if dtype == torch.float32 and loss.relation == "bce":
            tol = 2e-4  # pairs of probabilities are often parallel: log(1 - c) of a rounded c
        torch.testing.assert_close(
            value.double().cpu(), naive_loss(loss, inputs, **options), rtol=tol, atol=tol
        )


@every_option
def test_gradient_equals_loop(options, device):
    loss = make_loss(device=device, **options)
    inputs = with_gradient(random_inputs(7, device=device))
    actual = gradients(loss(*inputs), loss, inputs)
    expected = gradients(naive_loss(loss, inputs, **options), loss, inputs)
    assert len(actual) == 6  # two logits, w, b, the head's weight and bias
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", [OPTIONS[0], *OPTIONS[2:]])
def test_gradcheck(options):
    """Inputs and parameters; released has a float32 value and is checked against the loop."""
    loss, inputs = make_loss(**options), with_gradient(random_inputs(4))
    names, parameters = zip(*loss.named_parameters(), strict=True)

    def call(teacher: Tensor, student: Tensor, *values: Tensor) -> Tensor:
        state = dict(zip(names, values, strict=True))
        return functional_call(loss, state, (teacher, student, inputs[2]))

    assert torch.autograd.gradcheck(call, (*inputs[:2], *parameters))


def test_loss_by_hand():
    """Row 0 seen, row 1 not. Equal teacher logits: s = 1/2; w = 0: c = 1/2, h̃ = (1/2, 1/2).

    A head that answers (1, 0) makes every cosine 1/sqrt(2).
    """
    loss = O2DBDLoss(3, torch.tensor([0, 1]), initial_weight=0.0).double()
    with torch.no_grad():
        loss.head.weight.zero_()
        loss.head.bias.copy_(torch.tensor([50.0, -50.0]))
    teacher, student = torch.zeros(2, 2).double(), torch.zeros(2, 3).double()
    c = math.sqrt(0.5)
    expected = -(math.log(c) + math.log(1 - c)) / 2
    assert loss(teacher, student, torch.tensor([0, 2])).item() == pytest.approx(expected)


def test_domain_target_joins_classes_that_class_target_parts():
    teacher, student, _ = random_inputs(6)
    first, second = torch.tensor([0, 2, 4, 1, 3, 5]), torch.tensor([4, 4, 0, 5, 1, 1])
    other_domain = torch.tensor([0, 2, 1, 4, 3, 5])
    domain, by_class = make_loss(target="domain"), make_loss(target="class")
    assert domain(teacher, student, first) == domain(teacher, student, second)
    assert domain(teacher, student, first) != domain(teacher, student, other_domain)
    assert by_class(teacher, student, first) != by_class(teacher, student, second)
    assert by_class(teacher, student, first) == by_class(teacher, student, other_domain)


def test_a_head_that_agrees_with_the_teacher_costs_less_than_one_that_contradicts():
    labels = torch.tensor([0, 2, 4, 1, 3, 5])
    student = 6 * torch.eye(CLASSES, dtype=torch.float64)[labels]
    teacher = torch.tensor([[9.0, 0, 0]] * 3 + [[0.1, 0, 0]] * 3, dtype=torch.float64)
    loss = O2DBDLoss(CLASSES, SEEN, initial_weight=3.0, initial_offset=0.0).double()
    loss.fit_score(teacher)
    with torch.no_grad():
        loss.head.bias.zero_()
        loss.head.weight[0] = torch.where(loss.is_seen, 0.5, -0.5)
        loss.head.weight[1] = -loss.head.weight[0]
        agrees = loss(teacher, student, labels)
        loss.head.weight.copy_(loss.head.weight.flip(0))
        contradicts = loss(teacher, student, labels)
    assert agrees < 0.3 < 1.0 < contradicts


@every_option
@pytest.mark.parametrize(
    "case", ["empty", "one row", "only seen", "only unseen", "one class", "zero logits", "large"]
)
def test_loss_and_gradient_are_finite(options, device, any_dtype, case):
    rows = {"empty": 0, "one row": 1}.get(case, 6)
    teacher, student, labels = random_inputs(rows, device=device)
    if case == "only seen":
        labels = SEEN.to(device)[labels % 3]
    elif case == "only unseen":
        labels = 2 * (labels % 3) + 1
    elif case == "one class":
        labels = torch.full_like(labels, 2)
    elif case == "zero logits":
        teacher, student = torch.zeros_like(teacher), torch.zeros_like(student)
    elif case == "large":
        teacher, student = 1e4 * teacher.sign(), 1e4 * student.sign()
    computed = torch.promote_types(any_dtype, torch.float32)
    loss = make_loss(dtype=computed, device=device, **options)
    inputs = with_gradient((teacher.to(any_dtype), student.to(any_dtype), labels))
    value = loss(*inputs)
    assert value.shape == ()
    assert value.isfinite()
    assert all(g.isfinite().all() for g in gradients(value, loss, inputs))
    if case == "empty":
        assert value.item() == 0


@every_option
def test_half_precision_is_computed_in_float32(options, device, half):
    teacher, student, labels = random_inputs(6, dtype=half, device=device)
    loss = make_loss(dtype=torch.float32, device=device, **options)
    value = loss(teacher, student, labels)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(teacher.float(), student.float(), labels))


@every_option
def test_autocast_does_not_change_the_loss(options, device, half):
    loss = make_loss(dtype=torch.float32, device=device, **options)
    inputs = with_gradient(random_inputs(6, dtype=torch.float32, device=device))
    expected = loss(*inputs)
    with torch.autocast(device.type, dtype=half):
        inside = loss(*inputs)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, expected, rtol=1e-6, atol=1e-6)
    pairs = zip(gradients(inside, loss, inputs), gradients(expected, loss, inputs), strict=True)
    for a, e in pairs:
        torch.testing.assert_close(a, e, rtol=1e-5, atol=1e-6)


@every_option
def test_noncontiguous_inputs(options):
    inputs = random_inputs(10)
    strided = [x[::2] for x in inputs]
    transposed = [*(x.T.contiguous().T for x in inputs[:2]), inputs[2]]
    loss = make_loss(**options)
    for views in (strided, transposed):
        assert not any(x.is_contiguous() for x in views[:2])
        torch.testing.assert_close(loss(*views), loss(*[x.contiguous() for x in views]))


@pytest.mark.parametrize("target", ["domain", "class"])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_labels_and_classes_of_any_integer_type(target, dtype):
    """A uint8 label must not become a mask."""
    teacher, student, labels = random_inputs(6)
    loss = make_loss(target=target)
    expected = loss(teacher, student, labels)
    torch.testing.assert_close(loss(teacher, student, labels.to(dtype)), expected)
    assert O2DBDLoss(CLASSES, SEEN.to(dtype)).is_seen.tolist() == loss.is_seen.tolist()
    assert loss.is_seen.tolist() == [True, False, True, False, True, False]


@every_option
@few_examples
@given(order=st.permutations(range(6)), seed=st.integers(0, 999))
def test_permuting_the_batch_changes_nothing(options, order, seed):
    inputs, loss = random_inputs(6, seed), make_loss(**options)
    tol = 1e-6 if loss.relation == "bce_with_logits" else 1e-9
    torch.testing.assert_close(loss(*[x[order] for x in inputs]), loss(*inputs), rtol=tol, atol=0)


@few_examples
@given(seed=st.integers(0, 999), shift=st.floats(-20, 20))
def test_constant_on_all_logits_changes_nothing(seed, shift):
    """Both sides see logits through a softmax only; a head on raw logits would not."""
    teacher, student, labels = random_inputs(6, seed)
    loss = make_loss(seed)
    torch.testing.assert_close(
        loss(teacher + shift, student - shift, labels), loss(teacher, student, labels)
    )
