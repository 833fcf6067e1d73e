"""``attach`` and ``loss`` beside a script."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from d3_plugin import D3Settings, attach
from d3_plugin.data import GZSLData
from tests.fuzz.fuzzing import ANYTHING, EXAMPLES, NO_TENSORS, class_ids, examples, refused, tensors
from tests.toys import PlainGenerator, parts_of

FAST = D3Settings(weight=0.5, embedding_dim=4, teacher_epochs=1, synthetic_rows=4, real_rows=4)


def parts(data: GZSLData) -> dict[str, Any]:
    return parts_of(PlainGenerator(), data) | {"settings": FAST}


class Odd:
    """An object that is nothing in particular."""


WRONG = st.one_of(ANYTHING, st.sampled_from([Odd(), nn.Module(), nn.Linear(3, 2), print]))


@EXAMPLES
def test_attach(toy_data: GZSLData, number: int) -> None:
    count = 0
    names = [
        *("trainer", "data", "generator", "optimizer", "settings", "mode", "seed", "labels_are"),
        *("noise_dim", "synthesize", "modules", "train_classifier", "synthetic_per_class"),
        *("plugins", "progress", "gather", "strict_plugins"),
    ]

    functions = {"synthesize", "train_classifier", "progress"}

    @examples(number)
    @given(st.dictionaries(st.sampled_from(names), WRONG, min_size=1, max_size=2))
    def attempt(wrong: dict[str, Any]) -> None:
        nonlocal count
        for name in functions & wrong.keys():  # what a function of the user's raises is the user's
            if callable(wrong[name]):
                wrong[name] = print
        count += refused(lambda: attach(**{**parts(toy_data), **wrong}).detach())

    attempt()
    assert count > 0.65 * number


@EXAMPLES
def test_loss(toy_data: GZSLData, number: int) -> None:
    count = 0

    @examples(number)
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        nonlocal count
        form = data.draw(st.sampled_from(["class_ids", "mapped"]))
        d3 = attach(**parts(toy_data), labels_are=form)  # the first batch is checked in full
        features = data.draw(st.one_of(tensors((6, 12)), st.none()))
        labels = data.draw(st.one_of(class_ids(6, 6), st.none()))
        if getattr(features, "is_meta", False) or getattr(labels, "is_meta", False):
            return  # the test's stand-in for another device; loss() moves rows to its own
        if getattr(features, "ndim", 1) == 0:
            return
        attributes = data.draw(st.one_of(tensors((6, 5)), st.none()))
        if not getattr(attributes, "is_meta", False):
            count += refused(lambda: d3.loss(features, attributes=attributes))
        count += refused(lambda: d3.loss(features, labels))
        count += refused(lambda: d3.loss(toy_data.train_features[:6], labels))

    attempt()
    assert count > 1.2 * number


@EXAMPLES
def test_evaluate_and_state(toy_data: GZSLData, number: int) -> None:
    count = 0
    d3 = attach(**parts(toy_data))
    state = d3.state_dict()

    @examples(number)
    @given(st.sampled_from(sorted(state)), ANYTHING, NO_TENSORS)
    def attempt(part: str, value: Any, other: Any) -> None:
        nonlocal count
        count += refused(lambda: d3.load_state_dict({**state, part: other}))
        draws = 0 if isinstance(value, int) and value > 0 else value  # a large number is no mistake
        count += refused(lambda: d3.evaluate(draws=draws))
        count += refused(lambda: d3.evaluate(final_classifier=other or "neither"))

    attempt()
    assert count > 2 * number
