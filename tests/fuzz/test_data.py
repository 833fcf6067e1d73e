"""Data sets in memory and metrics."""

from __future__ import annotations

from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from d3_plugin.data import GZSLData, load, pseudo_unseen
from d3_plugin.data.host_data import as_gzsl_data
from d3_plugin.evaluation import (
    gzsl_metrics,
    harmonic_mean,
    ood_auroc,
    per_class_accuracy,
    seen_unseen_curve,
)
from tests.data.test_dataset import as_arrays
from tests.fuzz.fuzzing import ANYTHING, EXAMPLES, NO_TENSORS, class_ids, examples, refused, tensors

ROWS = {"train": 8, "test_seen": 4, "test_unseen": 4}


def field_value(draw: st.DrawFn, name: str, good: Any) -> Any:
    """Something in the place of a field of GZSLData."""
    if name == "name":
        return draw(st.text(max_size=5))
    if name == "class_names":
        return draw(st.one_of(st.lists(st.text(max_size=3), max_size=7).map(tuple), NO_TENSORS))
    if name.endswith(("labels", "classes")):
        return draw(class_ids(len(good), 6))
    return draw(tensors(tuple(good.shape)))


@EXAMPLES
def test_data_set(toy_data: GZSLData, number: int) -> None:
    count = 0
    names = [field.name for field in fields(GZSLData)]

    @examples(number)
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        nonlocal count
        changed = {
            name: field_value(data.draw, name, getattr(toy_data, name))
            for name in data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3))
        }

        def use() -> None:
            """What is accepted must also work."""
            pseudo_unseen(replace(toy_data, **changed)).scaled()

        count += refused(use)

    attempt()
    assert count > 0.6 * number


@EXAMPLES
def test_script_data(toy_data: GZSLData, number: int) -> None:
    """The data objects of the field's scripts, which check nothing themselves."""
    count = 0
    theirs = {
        "train_feature": "train_features",
        "train_label": "train_labels",
        "test_seen_feature": "test_seen_features",
        "test_seen_label": "test_seen_labels",
        "test_unseen_feature": "test_unseen_features",
        "test_unseen_label": "test_unseen_labels",
        "attribute": "attributes",
        "seenclasses": "seen_classes",
        "unseenclasses": "unseen_classes",
    }
    good = {name: getattr(toy_data, ours) for name, ours in theirs.items()}

    @examples(number)
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        nonlocal count
        parts = dict(good)
        for name in data.draw(st.lists(st.sampled_from(sorted(good)), min_size=1, max_size=2)):
            parts[name] = field_value(data.draw, theirs[name], good[name])
            if data.draw(st.integers(0, 9)) == 0:
                del parts[name]
        count += refused(lambda: as_gzsl_data(SimpleNamespace(**parts)))

    attempt()
    assert count > 0.6 * number


@EXAMPLES
def test_arrays(toy_data: GZSLData, number: int) -> None:
    count = 0
    good = as_arrays(toy_data)
    names = sorted(good)

    @examples(number)
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        nonlocal count
        parts: dict[str, Any] = dict(good)
        for name in data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=2)):
            kind = "class_names" if name == "class_names" else "labels"
            kind = kind if name not in ("features", "attributes") else "train_features"
            value = torch.from_numpy(good[name]) if kind != "class_names" else good[name]
            parts[name] = field_value(data.draw, kind, value)
        if data.draw(st.integers(0, 3)) == 0:
            parts["unseen_classes"] = data.draw(class_ids(2, 6))
            parts["test_unseen"] = data.draw(st.sampled_from([None, None, 1]))
        count += refused(lambda: GZSLData.from_arrays(**parts).scaled())

    attempt()
    assert count > 0.65 * number


@EXAMPLES
def test_validation_cut(toy_data: GZSLData, number: int) -> None:
    count = 0

    @examples(number)
    @given(ANYTHING, ANYTHING, st.booleans())
    def attempt(fraction: Any, seed: Any, data_too: bool) -> None:
        nonlocal count
        data: Any = fraction if data_too else toy_data
        count += refused(lambda: pseudo_unseen(data, fraction, seed))

    attempt()
    assert count > 0.8 * number


@EXAMPLES
def test_data_names(number: int) -> None:
    count = 0

    @examples(number)
    @given(st.one_of(st.text(max_size=12), st.text("digts-0123456789", max_size=40), NO_TENSORS))
    def attempt(spec: Any) -> None:
        nonlocal count
        count += refused(lambda: load(spec))

    attempt()
    assert count > 0.65 * number
    assert refused(lambda: load("x" * 5000))
    assert refused(lambda: load("a\0b"))


@st.composite
def arrays(draw: st.DrawFn, shape: tuple[int, ...], ids: bool) -> Any:
    made = draw(class_ids(shape[0], 6) if ids else tensors(shape))
    if isinstance(made, torch.Tensor) and draw(st.integers(0, 6)) and made.device.type == "cpu":
        made = np.array(made.to_dense().real.tolist())
    if isinstance(made, np.ndarray) and draw(st.integers(0, 9)) == 0:
        return made.astype(draw(st.sampled_from([object, str, bool, np.complex64])))
    return made


@EXAMPLES
def test_metrics(number: int) -> None:
    count = 0
    labels = np.repeat(np.arange(6), 2)
    good: dict[str, Any] = {
        "scores": np.random.default_rng(0).normal(size=(12, 6)),
        "labels": labels,
        "seen_classes": np.array([0, 1, 2]),
        "unseen_classes": np.array([3, 4, 5]),
    }

    @examples(number)
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        nonlocal count
        draw = data.draw
        given_: dict[str, Any] = dict(good)
        for name in draw(st.lists(st.sampled_from(sorted(good)), min_size=1, max_size=2)):
            ids = name != "scores"
            given_[name] = draw(arrays((len(good[name]),) if ids else (12, 6), ids))
        count += refused(lambda: gzsl_metrics(**given_))
        count += refused(lambda: seen_unseen_curve(**given_))
        one, other = draw(arrays((12,), True)), draw(arrays((6,), True))
        count += refused(lambda: per_class_accuracy(labels, one, other))
        count += refused(lambda: ood_auroc(draw(arrays((3,), False)), draw(arrays((4,), False))))
        count += refused(lambda: harmonic_mean(draw(ANYTHING), 0.5))

    attempt()
    assert count > 2.3 * number
