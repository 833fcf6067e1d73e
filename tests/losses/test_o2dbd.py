"""O2DBDLoss against a loop over pairs, and as a module with parameters and a fitted score."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call

from d3_plugin.errors import InputError
from d3_plugin.losses import O2DBDLoss
from tests.functional import naive

CLASSES = 6
SEEN = torch.tensor([4, 0, 2])
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
HALVES = [torch.bfloat16, torch.float16]
OPTIONS = [
    {},
    naive.RELEASED_O2DBD,
    {"score": "energy", "score_temperature": 2.0, "target": "class", "rescale": True},
    {"score": "entropy", "relation": "contrastive", "relation_temperature": 0.5},
    {"score": "max_logit", "softmax_confidence": True},
]
few_examples = settings(max_examples=30, deadline=None)
every_option = pytest.mark.parametrize(
    "options", OPTIONS, ids=["default", "released", "energy", "entropy", "max_logit"]
)


def random_inputs(
    rows: int, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Teacher logits, student logits, labels of all classes."""
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    student = torch.randn(rows, CLASSES, generator=generator, dtype=torch.float64)
    labels = torch.randint(CLASSES, (rows,), generator=generator)
    return (2 * teacher).to(dtype), (2 * student).to(dtype), labels


def make_loss(seed: int = 0, dtype: torch.dtype = torch.float64, **options) -> O2DBDLoss:
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
    return loss


def naive_loss(loss: O2DBDLoss, inputs: tuple[Tensor, ...], **options) -> Tensor:
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


def with_gradient(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (*(x.clone().requires_grad_() for x in inputs[:2]), inputs[2])


def gradients(value: Tensor, loss: O2DBDLoss, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """With respect to both logits and every parameter."""
    return list(torch.autograd.grad(value, [*inputs[:2], *loss.parameters()]))


@every_option
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("rows", [1, 8])
def test_loss_equals_loop(options, dtype, rows):
    for seed in range(3):
        loss, inputs = make_loss(seed, dtype, **options), random_inputs(rows, seed, dtype)
        value = loss(*inputs)
        float32_value = options.get("relation") == "bce_with_logits"
        assert value.shape == ()
        assert value.dtype == (torch.float32 if float32_value else dtype)
        tol = 1e-6 if float32_value else TOLERANCE[dtype]
        if dtype == torch.float32 and loss.relation == "bce":
            tol = 2e-4  # pairs of probabilities are often parallel: log(1 - c) of a rounded c
        torch.testing.assert_close(
            value.double(), naive_loss(loss, inputs, **options), rtol=tol, atol=tol
        )


@every_option
def test_gradient_equals_loop(options):
    loss, inputs = make_loss(**options), with_gradient(random_inputs(7))
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
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALVES])
@pytest.mark.parametrize(
    "case", ["empty", "one row", "only seen", "only unseen", "one class", "zero logits", "large"]
)
def test_loss_and_gradient_are_finite(options, dtype, case):
    teacher, student, labels = random_inputs({"empty": 0, "one row": 1}.get(case, 6))
    if case == "only seen":
        labels = SEEN[labels % 3]
    elif case == "only unseen":
        labels = 2 * (labels % 3) + 1
    elif case == "one class":
        labels = torch.full_like(labels, 2)
    elif case == "zero logits":
        teacher, student = torch.zeros_like(teacher), torch.zeros_like(student)
    elif case == "large":
        teacher, student = 1e4 * teacher.sign(), 1e4 * student.sign()
    loss = make_loss(dtype=torch.float64 if dtype == torch.float64 else torch.float32, **options)
    inputs = with_gradient((teacher.to(dtype), student.to(dtype), labels))
    value = loss(*inputs)
    assert value.shape == ()
    assert value.isfinite()
    assert all(g.isfinite().all() for g in gradients(value, loss, inputs))
    if case == "empty":
        assert value.item() == 0


@every_option
@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_is_computed_in_float32(options, dtype):
    teacher, student, labels = random_inputs(6, dtype=dtype)
    loss = make_loss(dtype=torch.float32, **options)
    value = loss(teacher, student, labels)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(teacher.float(), student.float(), labels))


@every_option
@pytest.mark.parametrize("dtype", HALVES)
def test_autocast_does_not_change_the_loss(options, dtype):
    loss = make_loss(dtype=torch.float32, **options)
    inputs = with_gradient(random_inputs(6, dtype=torch.float32))
    expected = loss(*inputs)
    with torch.autocast("cpu", dtype=dtype):
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


# --- the score and its confidence


@pytest.mark.parametrize(
    "kind", ["max_softmax", "log_max_softmax", "max_logit", "energy", "entropy"]
)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_fit_score_standardises(kind, temperature):
    """With w = 1 and b = 0 the confidence's log-odds are the standardised score."""
    teacher = random_inputs(40)[0]
    loss = O2DBDLoss(
        CLASSES, SEEN, score=kind, score_temperature=temperature, initial_offset=0.0
    ).double()
    loss.fit_score(teacher)
    pair = loss.confidence(teacher)
    score = pair[:, 0].log() - pair[:, 1].log()
    assert score.mean().item() == pytest.approx(0, abs=1e-9)
    assert score.std().item() == pytest.approx(1, abs=1e-9)
    assert score.argmax() == naive.id_score(teacher, kind, temperature).argmax()


def test_fitted_default_is_73_percent_sure_of_an_average_row_and_27_of_a_poor_one():
    loss = O2DBDLoss(2, torch.tensor([0]), score="max_logit").double()
    teacher = torch.tensor([[3.0], [5.0], [7.0]], dtype=torch.float64)  # mean 5, deviation 2
    loss.fit_score(teacher)
    confidence = loss.confidence(torch.tensor([[5.0], [1.0]], dtype=torch.float64))[:, 0]
    assert confidence.tolist() == pytest.approx([0.7311, 0.2689], abs=1e-4)


def test_fit_score_of_equal_rows_stays_finite():
    loss = O2DBDLoss(CLASSES, SEEN)
    loss.fit_score(torch.ones(5, 3))
    assert loss.confidence(torch.ones(5, 3)).isfinite().all()
    assert loss.confidence(torch.ones(1, 3))[0, 0].item() == pytest.approx(0.7311, abs=1e-3)


def test_fit_score_takes_half_precision_and_leaves_no_graph():
    loss = O2DBDLoss(CLASSES, SEEN)
    loss.fit_score(random_inputs(9)[0].half().requires_grad_())
    assert loss.score_mean.dtype == torch.float32
    assert not loss.score_mean.requires_grad
    assert not loss.score_std.requires_grad


@pytest.mark.parametrize("rows", [0, 1])
def test_fit_score_needs_two_rows(rows):
    with pytest.raises(InputError, match=rf"fit_score needs at least 2 rows, got {rows}"):
        O2DBDLoss(CLASSES, SEEN).fit_score(torch.zeros(rows, 3))


def test_fit_score_rejects_shape():
    with pytest.raises(InputError, match=r"teacher_logits must be \(N, K\) with K > 0, got \(3,\)"):
        O2DBDLoss(CLASSES, SEEN).fit_score(torch.zeros(3))


def test_released_confidence_never_favours_seen_and_default_does():
    teacher = torch.tensor([[30.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    released = O2DBDLoss.released(CLASSES, SEEN).confidence(teacher)
    assert (released[:, 0] <= 0.5).all()
    default = O2DBDLoss(CLASSES, SEEN)
    default.fit_score(teacher)
    assert (default.confidence(teacher)[:, 0] > 0.5).tolist() == [True, True]
    assert default.confidence(teacher)[0, 0] > 0.8


def test_released_is_the_authors_formula():
    loss, inputs = O2DBDLoss.released(CLASSES, SEEN).double(), random_inputs(6)
    expected = naive.o2dbd_released(
        *inputs,
        SEEN,
        confidence_weight=torch.ones(1),
        confidence_offset=torch.zeros(1),
        head_weight=loss.head.weight,
        head_bias=loss.head.bias,
    )
    assert loss(*inputs).item() == pytest.approx(expected.item(), rel=1e-6)


# --- the module


@pytest.mark.parametrize(
    "clone",
    [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))],
    ids=["deepcopy", "pickle"],
)
@every_option
def test_clone_gives_the_same_loss_and_shares_nothing(clone, options):
    loss, inputs = make_loss(**options), random_inputs(6)
    cloned = clone(loss)
    assert repr(cloned) == repr(loss)
    assert cloned(*inputs).item() == loss(*inputs).item()
    with torch.no_grad():
        cloned.head.weight.add_(torch.randn(2, CLASSES))
    assert cloned(*inputs).item() != loss(*inputs).item()


def test_state_dict_round_trip_carries_parameters_and_score():
    loss, inputs = make_loss(), random_inputs(6)
    assert set(loss.state_dict()) == {
        "confidence_weight",
        "confidence_offset",
        "score_mean",
        "score_std",
        "head.weight",
        "head.bias",
    }
    other = O2DBDLoss(CLASSES, SEEN).double()
    assert other(*inputs).item() != loss(*inputs).item()
    other.load_state_dict(loss.state_dict(), strict=True)
    assert other(*inputs).item() == loss(*inputs).item()


def test_double_converts_all_but_the_classes():
    loss = O2DBDLoss(CLASSES, SEEN).double()
    assert {t.dtype for t in loss.state_dict().values()} == {torch.float64}
    assert loss.is_seen.dtype == torch.bool
    assert loss(*random_inputs(6)).dtype == torch.float64


def test_float32_module_takes_float64_logits_and_back():
    loss, (teacher, student, labels) = make_loss(dtype=torch.float32), random_inputs(6)
    expected = make_loss()(teacher, student, labels).item()
    assert loss(teacher, student, labels).item() == pytest.approx(expected, rel=1e-4)
    value = make_loss()(teacher.float(), student.float(), labels)
    assert value.item() == pytest.approx(expected, rel=1e-4)


def test_repr_shows_every_option():
    assert repr(O2DBDLoss.released(CLASSES, SEEN)).splitlines()[1].strip() == (
        "score='log_max_softmax', score_temperature=1.0, target='class', "
        "relation='bce_with_logits', relation_temperature=0.1, rescale=True, "
        "softmax_confidence=True"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score": "msp"}, "score is one of max_softmax, .*; got 'msp'"),
        ({"target": "id"}, "target is one of domain, class; got 'id'"),
        ({"relation": "l2"}, "relation is one of contrastive, bce, bce_with_logits; got 'l2'"),
        ({"score_temperature": 0}, "score_temperature must be above 0 and finite, got 0"),
        ({"relation_temperature": math.nan}, "relation_temperature must be above 0 and finite"),
    ],
)
def test_option_outside_its_range(options, message):
    with pytest.raises(InputError, match=f"O2DBDLoss: {message}"):
        O2DBDLoss(CLASSES, SEEN, **options)


def test_every_bad_number_is_named():
    with pytest.raises(InputError, match="O2DBDLoss: 3 problems:") as caught:
        O2DBDLoss(0, SEEN, score_temperature=-1, relation_temperature=0)
    for name in ("num_classes", "score_temperature", "relation_temperature"):
        assert f"- {name} must be above 0 and finite" in str(caught.value)


def test_every_bad_input_is_named():
    teacher, student, labels = random_inputs(6)
    with pytest.raises(InputError) as caught:
        O2DBDLoss(CLASSES, SEEN)(teacher.long(), student[:4], labels)
    message = str(caught.value)
    assert message.startswith("O2DBDLoss: 2 problems:")
    assert "teacher_logits must be floating point, got torch.int64" in message
    assert "same number of rows, got {'teacher_logits': 6, 'student_logits': 4}" in message


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(5).long(), r"labels must be \(6,\), one per row, got \(5,\)"),
        (torch.zeros(6), "labels must be integer class ids, got torch.float32"),
        (torch.zeros(6).bool(), "labels must be integer class ids, got torch.bool"),
        (torch.zeros(2, 3), "O2DBDLoss: 2 problems:"),
    ],
)
def test_bad_labels(labels, message):
    with pytest.raises(InputError, match=message):
        make_loss()(*random_inputs(6)[:2], labels)


@pytest.mark.parametrize(
    ("seen", "match"),
    [
        (torch.tensor([True, False, True]), r"integer class ids.*mask\.nonzero"),
        (torch.tensor([0.0, 1.0]), "integer class ids"),
        (torch.tensor([0, 4]), r"0\.\.3, got 0\.\.4"),
        (torch.tensor([-1, 1]), r"got -1\.\.1"),
        (torch.tensor([1, 1]), "twice"),
    ],
)
def test_seen_classes_that_are_wrong(seen: torch.Tensor, match: str) -> None:
    with pytest.raises(InputError, match=match):
        O2DBDLoss(4, seen)


def test_logits_of_another_width() -> None:
    loss = O2DBDLoss(4, torch.tensor([0, 2]))
    labels = torch.zeros(3, dtype=torch.long)
    with pytest.raises(InputError, match=r"must be 2 and 4 wide.*got 3 and 4"):
        loss(torch.zeros(3, 3), torch.zeros(3, 4), labels)
