"""Loss modules and their options; the functions behind them trust their caller."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from d3_plugin import D3Settings, ID2SDLoss, O2DBDLoss
from tests.fuzz.fuzzing import ANYTHING, EXAMPLES, NUMBERS, class_ids, examples, refused, tensors

N, S, C, K = 4, 2, 3, 5
FORMS = st.sampled_from(["contrastive", "bce", "bce_with_logits", "kl", "", None, 3, [], "logits"])
KL_FORMS = st.sampled_from(["logits", "double_softmax", "Logits", None, 1.0, ["logits"]])
FLAGS = st.one_of(st.booleans(), st.booleans(), ANYTHING)
POSITIVE = st.one_of(st.just(1.0), NUMBERS, ANYTHING)


def usable(drawn: Any) -> bool:
    """No stand-in for another device, and no dtype that PyTorch itself promotes nowhere."""
    odd = isinstance(drawn, Tensor) and (drawn.is_meta or drawn.dtype == torch.float8_e4m3fn)
    return not odd


@EXAMPLES
def test_modules(number: int) -> None:
    """Modules of good options take malformed batches, and malformed options are refused."""
    count = 0

    @examples(number)
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        nonlocal count
        draw = data.draw
        id2sd = ID2SDLoss(torch.tensor([0, 2]), relation=draw(st.sampled_from(["bce"] * 2)))
        o2dbd = O2DBDLoss(
            C, torch.tensor([0, 2]), target=draw(st.sampled_from(["domain", "class"]))
        )
        shapes = (tensors((N, S)), tensors((N, C)), tensors((N, K)), class_ids(N, C))
        teacher, student, z, labels = (draw(shape.filter(usable)) for shape in shapes)
        count += refused(lambda: id2sd(teacher, student, z, z, labels))
        if isinstance(labels, Tensor):
            count += refused(lambda: o2dbd(teacher, student, labels))
        count += refused(lambda: o2dbd.fit_score(teacher))

    attempt()
    assert count > 1.3 * number


@EXAMPLES
def test_options(number: int) -> None:
    count = 0
    numbers = ["kl_weight", "be_weight", "temperature", "relation_temperature"]
    o2dbd_numbers = [
        *("score_temperature", "relation_temperature", "initial_weight", "initial_offset"),
    ]

    @examples(number)
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        nonlocal count
        draw = data.draw
        seen = draw(class_ids(2, C))
        options: dict[str, Any] = {draw(st.sampled_from(numbers)): draw(POSITIVE)}
        options |= {"kl_form": draw(KL_FORMS), "relation": draw(FORMS), "gather": draw(FLAGS)}
        count += refused(lambda: ID2SDLoss(seen, **options))
        options = {draw(st.sampled_from(o2dbd_numbers)): draw(POSITIVE), "relation": draw(FORMS)}
        options[draw(st.sampled_from(["gather", "rescale", "softmax_confidence"]))] = draw(FLAGS)
        width = draw(st.sampled_from([C, C, 0, -1, 2.5, "3", None, 10**30]))
        count += refused(lambda: O2DBDLoss(width, seen, **options))

    attempt()
    assert count > 1.3 * number


@EXAMPLES
def test_settings(number: int) -> None:
    count = 0
    fields = list(D3Settings.__dataclass_fields__)

    @examples(number)
    @given(st.dictionaries(st.sampled_from(fields), st.one_of(ANYTHING, tensors((2,))), min_size=1))
    def attempt(values: dict[str, Any]) -> None:
        nonlocal count
        count += refused(lambda: D3Settings(**values))
        count += refused(lambda: D3Settings.released(**values))

    attempt()
    assert count > 1.3 * number
