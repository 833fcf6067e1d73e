"""ID2SDLoss against a loop over rows and pairs, and as a module."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from d3_plugin.errors import InputError
from d3_plugin.losses import ID2SDLoss
from tests.functional import naive

SEEN = torch.tensor([4, 0, 2])  # the student's columns, out of order; 6 classes
OPTIONS = [
    {},
    {"kl_form": "double_softmax", "relation": "bce_with_logits"},
    {"kl_weight": 0.3, "be_weight": 2.0, "temperature": 4.0, "relation_temperature": 0.5},
    {"relation": "bce"},
]
few_examples = settings(max_examples=30, deadline=None)
every_option = pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o) or "default")


def random_inputs(
    rows: int,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> list[Tensor]:
    """Teacher logits, student logits, the two embeddings, labels of seen classes."""
    generator = torch.Generator().manual_seed(seed)

    def normal(width: int) -> Tensor:
        x = torch.randn(rows, width, generator=generator, dtype=torch.float64)
        return (2 * x).to(device, dtype)

    labels = SEEN[torch.randint(3, (rows,), generator=generator)]
    return [normal(3), normal(6), normal(4).relu(), normal(4).relu(), labels.to(device)]


def with_gradient(inputs: list[Tensor]) -> list[Tensor]:
    return [x.clone().requires_grad_() if x.is_floating_point() else x for x in inputs]


def gradients(loss: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, inputs[:4]))


@every_option
@pytest.mark.parametrize("rows", [1, 5, 8])
def test_loss_equals_loop(options, device, dtype, tolerance, rows):
    module = ID2SDLoss(SEEN, **options).to(device)
    for seed in range(3):
        inputs = random_inputs(rows, seed, dtype, device)
        inputs[2:4] = [x + 0.1 for x in inputs[2:4]]  # parallel rows: log(1 - c) of rounding
        loss = module(*inputs)
        expected = naive.id2sd(*inputs, SEEN, **options)
        assert loss.shape == ()
        assert loss.device.type == device.type
        tol = 1e-6 if module.relation == "bce_with_logits" else tolerance
        torch.testing.assert_close(loss.double().cpu(), expected, rtol=tol, atol=1e-6)


@every_option
def test_gradient_equals_loop(options, device):
    inputs = with_gradient(random_inputs(7, device=device))
    actual = gradients(ID2SDLoss(SEEN, **options).to(device)(*inputs), inputs)
    expected = gradients(naive.id2sd(*inputs, SEEN, **options), inputs)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[2], OPTIONS[3]])
def test_gradcheck(options):
    """Without ReLU zeros; released has a float32 value and is checked against the loop."""
    inputs = random_inputs(4)
    inputs[2], inputs[3] = inputs[2] + 0.1, inputs[3] + 0.2
    inputs = with_gradient(inputs)
    module = ID2SDLoss(SEEN, **options)
    assert torch.autograd.gradcheck(lambda *x: module(*x, inputs[4]), inputs[:4])


def test_terms_by_hand():
    """Teacher (3/4, 1/4), student (1/2, 1/2); two orthogonal embeddings of two classes."""
    teacher = torch.tensor([[math.log(3), 0.0]] * 2, dtype=torch.float64)
    student = torch.zeros(2, 3, dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64)
    module = ID2SDLoss(torch.tensor([0, 2]), kl_weight=3, be_weight=5)
    inputs = (teacher, student, eye, eye, torch.tensor([0, 2]))
    terms = module.terms(*inputs)
    kl, be = 0.75 * math.log(1.5) + 0.25 * math.log(0.5), math.log(1 + math.exp(-10))
    assert terms["kl"].item() == pytest.approx(kl)
    assert terms["be"].item() == pytest.approx(be)
    assert module(*inputs).item() == pytest.approx(3 * kl + 5 * be)


def test_teacher_is_row_and_student_is_column_of_the_relation():
    teacher_z, student_z = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    labels, logits = torch.tensor([0, 1]), torch.zeros(2, 2)
    module = ID2SDLoss(torch.tensor([0, 1]), relation_temperature=1.0)
    # Every teacher row has two equal cosines: log 2. The other way round they would be 1 and 0.
    be = module.terms(logits, logits, teacher_z, student_z, labels)["be"]
    assert be.item() == pytest.approx(math.log(2))


def test_released_is_the_authors_formula():
    inputs = random_inputs(6)
    loss = ID2SDLoss.released(SEEN)(*inputs)
    expected = naive.id2sd_released(*inputs, SEEN)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_released_perfect_match_still_costs():
    """One class, equal embeddings: log(1 + 1/e) = 0.31 where BCE of probabilities is 0."""
    logits, z = torch.zeros(3, 3), torch.ones(3, 4)
    labels = torch.zeros(3, dtype=torch.long)
    released = ID2SDLoss.released(torch.arange(3)).terms(logits, logits, z, z, labels)["be"]
    bce = ID2SDLoss(torch.arange(3), relation="bce").terms(logits, logits, z, z, labels)["be"]
    assert released.item() == pytest.approx(0.3132617, abs=1e-6)
    assert bce.item() == pytest.approx(1e-6, rel=0.05)


@every_option
@pytest.mark.parametrize("case", ["empty", "one row", "one class", "dead", "large"])
def test_loss_and_gradient_are_finite(options, device, any_dtype, case):
    inputs = random_inputs({"empty": 0, "one row": 1}.get(case, 6), device=device)
    if case == "one class":
        inputs[4] = torch.full_like(inputs[4], 2)
    if case == "dead":
        inputs[2], inputs[3] = torch.zeros_like(inputs[2]), torch.zeros_like(inputs[3])
    if case == "large":
        inputs[:2] = [1e4 * x.sign() for x in inputs[:2]]
        inputs[2:4] = [1e4 * x.sign() for x in inputs[2:4]]
    inputs = with_gradient([x.to(any_dtype) for x in inputs[:4]] + inputs[4:])
    loss = ID2SDLoss(SEEN, **options).to(device)(*inputs)
    grads = gradients(loss, inputs)
    assert loss.shape == ()
    assert loss.isfinite()
    assert all(g.isfinite().all() for g in grads)
    if case == "empty":
        assert loss.item() == 0
    if case == "dead":
        assert (grads[2] == 0).all()
        assert (grads[3] == 0).all()


@every_option
def test_half_precision_is_computed_in_float32(options, device, half):
    inputs = random_inputs(6, dtype=half, device=device)
    module = ID2SDLoss(SEEN, **options).to(device)
    loss = module(*inputs)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, module(*[x.float() for x in inputs[:4]], inputs[4]))


@every_option
def test_autocast_does_not_change_the_loss(options, device, half):
    inputs = with_gradient(random_inputs(6, dtype=torch.float32, device=device))
    module = ID2SDLoss(SEEN, **options).to(device)
    expected = module(*inputs)
    with torch.autocast(device.type, dtype=half):
        inside = module(*inputs)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, expected, rtol=1e-6, atol=1e-6)
    for a, e in zip(gradients(inside, inputs), gradients(expected, inputs), strict=True):
        torch.testing.assert_close(a, e, rtol=1e-5, atol=1e-6)


@every_option
def test_noncontiguous_inputs(options):
    inputs = random_inputs(10)
    strided = [x[::2] for x in inputs]
    transposed = [x.T.contiguous().T for x in inputs[:4]] + [inputs[4]]
    module = ID2SDLoss(SEEN, **options)
    for views in (strided, transposed):
        assert not any(x.is_contiguous() for x in views[:4])
        torch.testing.assert_close(module(*views), module(*[x.contiguous() for x in views]))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_labels_and_classes_of_any_integer_type(dtype):
    inputs = random_inputs(6)
    loss = ID2SDLoss(SEEN.to(dtype))(*inputs[:4], inputs[4].to(dtype))
    torch.testing.assert_close(loss, ID2SDLoss(SEEN)(*inputs))


@every_option
@few_examples
@given(order=st.permutations(range(6)), seed=st.integers(0, 999))
def test_permuting_the_batch_changes_nothing(options, order, seed):
    inputs = random_inputs(6, seed)
    module = ID2SDLoss(SEEN, **options)
    tol = 1e-6 if module.relation == "bce_with_logits" else 1e-11
    permuted = module(*[x[order] for x in inputs])
    torch.testing.assert_close(permuted, module(*inputs), rtol=tol, atol=0)


@every_option
@few_examples
@given(seed=st.integers(0, 999))
def test_aligned_embeddings_cost_less_than_mixed_up_ones(options, seed):
    inputs = random_inputs(9, seed)
    z = 3 * torch.eye(3, 4, dtype=torch.float64).repeat_interleave(3, dim=0)
    inputs[2:4] = [z + 0.2 * x for x in inputs[2:4]]
    module = ID2SDLoss(SEEN, **options)
    aligned = module(*inputs[:4], torch.arange(3).repeat_interleave(3))
    assert aligned < module(*inputs[:4], torch.arange(3).repeat(3))


@every_option
def test_labels_count_only_by_equality(options):
    inputs = random_inputs(8)
    module = ID2SDLoss(SEEN, **options)
    torch.testing.assert_close(module(*inputs[:4], 7 - 3 * inputs[4]), module(*inputs))


@pytest.mark.parametrize(
    ("weights", "kept", "skipped"),
    [({"kl_weight": 0}, "be", "label_space_kl"), ({"be_weight": 0}, "kl", "relation_loss")],
)
def test_term_of_weight_zero_is_not_computed(monkeypatch, weights, kept, skipped):
    inputs = random_inputs(6)
    expected = ID2SDLoss(SEEN).terms(*inputs)[kept]

    def refuse(*args, **kwargs):
        raise AssertionError(f"{skipped} was called")

    monkeypatch.setattr(f"d3_plugin.losses.id2sd.{skipped}", refuse)
    module = ID2SDLoss(SEEN, **weights)
    assert list(module.terms(*inputs)) == [kept]
    assert module(*inputs).item() == expected.item()


def test_both_weights_zero_is_a_zero():
    loss = ID2SDLoss(SEEN, kl_weight=0, be_weight=0)(*random_inputs(6))
    assert loss.shape == ()
    assert loss.item() == 0


@pytest.mark.parametrize(
    "clone",
    [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), lambda m: m.double()],
    ids=["deepcopy", "pickle", "double"],
)
def test_clone_gives_the_same_loss(clone):
    module = ID2SDLoss(SEEN, **OPTIONS[2])
    inputs = random_inputs(6)
    expected, text = module(*inputs), repr(module)
    cloned = clone(module)
    assert cloned.seen_classes.dtype == torch.int64
    assert repr(cloned) == text
    assert cloned(*inputs).item() == expected.item()


def test_state_dict_round_trip():
    """The classes belong to the problem, not to the state."""
    module = ID2SDLoss(SEEN)
    assert dict(module.state_dict()) == {}
    assert list(module.parameters()) == []
    ID2SDLoss(torch.arange(2)).load_state_dict(module.state_dict(), strict=True)


def test_repr_shows_every_option():
    text = repr(ID2SDLoss(SEEN, **OPTIONS[2], relation="bce"))
    assert text == (
        "ID2SDLoss(kl_weight=0.3, be_weight=2.0, kl_form='logits', temperature=4.0, "
        "relation='bce', relation_temperature=0.5)"
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("kl_form", "softmax"),
        ("relation", "l2"),
        ("temperature", 0),
        ("temperature", "1"),
        ("relation_temperature", math.inf),
        ("kl_weight", -1.0),
        ("kl_weight", "1"),
        ("be_weight", math.nan),
        ("be_weight", None),
        ("gather", 1),
    ],
)
def test_option_outside_its_range(option, value):
    with pytest.raises(InputError, match=f"ID2SDLoss: {option} must be .*, got"):
        ID2SDLoss(SEEN, **{option: value})


def test_every_bad_option_is_named():
    with pytest.raises(InputError, match="ID2SDLoss: 3 problems:") as caught:
        ID2SDLoss(SEEN, temperature=0, relation_temperature=-1, relation=["bce"])
    for name in ("temperature", "relation_temperature", "relation"):
        assert f"- {name} must be" in str(caught.value)
    assert "contrastive" in str(caught.value), "the choices"


@pytest.mark.parametrize(
    "seen",
    [
        *(torch.tensor([0.0, 1.0]), torch.tensor([1, 1]), torch.ones(2, 2)),
        torch.ones(1, dtype=torch.int64, device="meta"),
    ],
)
def test_seen_classes_that_are_wrong(seen):
    with pytest.raises(InputError, match=r"ID2SDLoss.*seen_classes"):
        ID2SDLoss(seen)


@pytest.mark.parametrize(
    ("position", "wrong", "match"),
    [
        (0, torch.zeros(6), r"got .*\(6,\)"),
        (0, torch.zeros(6, 2), "seen_classes"),
        (1, torch.zeros(6, 6).long(), "int64"),
        (1, torch.zeros(6, 4), r"\(6, 4\)"),  # class 4 has no column
        (1, torch.zeros(6, 6).to_sparse(), "sparse"),
        (2, [[1.0]] * 6, "list"),
        (3, torch.zeros(5, 4), r"\(5, 4\)"),
        (3, torch.zeros(6, 3), r"\(6, 3\)"),
        (4, torch.zeros(5).long(), r"\(5,\)"),
        (4, torch.zeros(6, 1).long(), r"\(6, 1\)"),
        (4, torch.zeros(6), "float32"),
        (4, torch.zeros(6).bool(), "bool"),
        (4, None, "NoneType"),
    ],
)
def test_bad_input(position, wrong, match):
    inputs = random_inputs(6)
    inputs[position] = wrong
    with pytest.raises(InputError, match=match):
        ID2SDLoss(SEEN)(*inputs)
