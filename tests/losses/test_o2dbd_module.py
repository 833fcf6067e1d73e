"""O2DBDLoss as a module: its fitted score, its parameters, its options and what it refuses."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from d3_plugin.errors import InputError
from d3_plugin.losses import O2DBDLoss
from tests.functional import naive
from tests.losses.o2dbd_problem import CLASSES, SEEN, every_option, make_loss, random_inputs

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
    with pytest.raises(InputError, match=f"2 rows, got {rows}"):
        O2DBDLoss(CLASSES, SEEN).fit_score(torch.zeros(rows, 3))


def test_fit_score_refuses_a_shape():
    with pytest.raises(InputError, match=r"\(3,\)"):
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


# --- refusals


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("score", "msp"),
        ("score", np.zeros(2)),
        ("target", "id"),
        ("relation", "l2"),
        ("score_temperature", 0),
        ("relation_temperature", math.nan),
        ("initial_weight", None),
        ("initial_offset", math.inf),
        ("rescale", 1),
        ("gather", "no"),
    ],
)
def test_option_outside_its_range(option: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"O2DBDLoss: {option} must be .*, got"):
        O2DBDLoss(CLASSES, SEEN, **{option: value})


@pytest.mark.parametrize("width", [0, -1, 2.5, "3", None, True])
def test_number_of_classes(width: Any) -> None:
    with pytest.raises(InputError, match=r"num_classes must be .*, got"):
        O2DBDLoss(width, SEEN)


def test_every_bad_option_is_named() -> None:
    with pytest.raises(InputError, match="O2DBDLoss: 3 problems:") as caught:
        O2DBDLoss(0, SEEN, score_temperature=-1, relation="l2")
    for name in ("num_classes", "score_temperature", "relation"):
        assert f"- {name} must be" in str(caught.value)


@pytest.mark.parametrize(
    ("position", "wrong", "match"),
    [
        (0, torch.zeros(6, 3).long(), "int64"),
        (0, torch.zeros(6, 2), r"\(6, 2\)"),
        (1, torch.zeros(4, CLASSES), r"\(4, 6\)"),
        (1, torch.zeros(6, 7), r"\(6, 7\)"),
        (1, [[1.0]] * 6, "list"),
        (2, torch.zeros(5).long(), r"\(5,\)"),
        (2, torch.zeros(6), "float32"),
        (2, torch.zeros(6).bool(), "bool"),
        (2, torch.tensor([0, 1, 2, 3, 4, 6]), r"0\.\.5, got 0\.\.6"),
        (2, torch.tensor([0, 1, 2, 3, 4, -1]), r"0\.\.5, got -1\.\.4"),
    ],
)
def test_bad_input(position: int, wrong: Any, match: str) -> None:
    inputs: list[Any] = list(random_inputs(6))
    inputs[position] = wrong
    with pytest.raises(InputError, match=match):
        make_loss()(*inputs)


@pytest.mark.parametrize(
    ("seen", "match"),
    [
        (torch.tensor([True, False, True]), r"mask\.nonzero"),
        (torch.tensor([0.0, 1.0]), "seen_classes"),
        (torch.tensor([0, 4]), r"0\.\.3, got \[0, 4\]"),
        (torch.tensor([-1, 1]), r"\[-1, 1\]"),
        (torch.tensor([1, 1]), r"\[1, 1\]"),
        (torch.tensor([], dtype=torch.long), "seen_classes"),
    ],
)
def test_seen_classes_that_are_wrong(seen: torch.Tensor, match: str) -> None:
    with pytest.raises(InputError, match=match):
        O2DBDLoss(4, seen)
