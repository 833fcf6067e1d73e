"""The batches a host gives to ``loss()``: class ids from labels or attributes, and the teacher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from d3_plugin import D3Warning, HostError
from d3_plugin.data import GZSLData
from d3_plugin.hosts.labels import HostBatches
from tests.toys import ScriptHost, VAEHost, attach

READINGS = ("class_ids", "mapped", "attributes")


class Knowing(torch.nn.Module):
    """A teacher that is right on the given share of the data's training rows."""

    def __init__(self, data: GZSLData, share: float) -> None:
        super().__init__()
        self.rows = data.train_features
        self.positions = torch.searchsorted(data.seen_classes, data.train_labels)
        self.positions[int(share * len(self.positions)) :] = 0

    def forward(self, features: Tensor) -> tuple[Tensor, None]:
        nearest = torch.cdist(features, self.rows).argmin(dim=1)
        return F.one_hot(self.positions[nearest], 4).float(), None


def batches(data: GZSLData, reading: str = "class_ids", share: float = 1.0) -> HostBatches:
    form = "mapped" if reading == "mapped" else "class_ids"
    return HostBatches(data, Knowing(data, share), form)


def given(data: GZSLData, reading: str, ids: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """These classes as labels or as attributes, the way a host has them."""
    if reading == "attributes":
        return None, data.attributes[ids]
    if reading == "mapped":
        ids = torch.searchsorted(data.seen_classes, ids.contiguous())
    return ids, None


# --- what is read


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
@pytest.mark.parametrize("reading", ["class_ids", "mapped"])
def test_classes_of_labels(toy_data: GZSLData, reading: str, dtype: torch.dtype) -> None:
    rows, ids = toy_data.train_features[::3], toy_data.train_labels[::3]
    labels, _ = given(toy_data, reading, ids)
    features, found = batches(toy_data, reading).read(rows, labels.to(dtype), None)
    assert torch.equal(found, ids)
    assert torch.equal(features, rows)


@pytest.mark.parametrize("form", ["raw", "normalised", "scaled", "half", "bfloat16"])
def test_classes_of_attributes(toy_data: GZSLData, form: str) -> None:
    rows, labels = toy_data.train_features[::3], toy_data.train_labels[::3]
    attributes = toy_data.attributes[labels]
    attributes = {
        "raw": attributes,
        "normalised": F.normalize(attributes, dim=1),
        "scaled": attributes * torch.linspace(0.01, 100, len(labels))[:, None],
        "half": attributes.half(),
        "bfloat16": attributes.bfloat16(),
    }[form]
    with torch.autocast("cpu", dtype=torch.bfloat16):  # a product in bfloat16 would match nothing
        _, found = batches(toy_data).read(rows, None, attributes)
    assert torch.equal(found, labels)


def test_same_step_by_labels_and_by_attributes(toy_data: GZSLData) -> None:
    losses = []
    labels = toy_data.train_labels[::7]
    for by_labels in (True, False):
        host = VAEHost(toy_data)
        d3 = host.attach()
        known = {"labels": labels} if by_labels else {"attributes": host.attribute[labels]}
        d3.loss(toy_data.train_features[::7], **known)
        losses.append(torch.stack([d3.values[name] for name in sorted(d3.values)]))
    assert torch.equal(*losses)


def test_labels_of_both_forms(host: ScriptHost) -> None:
    """Seen classes are 0, 2, 3, 5: position 2 means class 3, and is a valid class id itself."""
    data = host.data
    rows = torch.isin(data.train_labels, torch.tensor([3, 5]))
    features, ids = data.train_features[rows], data.train_labels[rows]
    positions = torch.searchsorted(data.seen_classes, ids)
    assert set(positions.tolist()) == {2, 3}
    attach(host).loss(features=features, labels=ids)
    attach(host, labels_are="mapped").loss(features=features, labels=positions)
    with pytest.raises(HostError, match="labels_are='mapped'"):
        attach(host).loss(features=features, labels=positions)
    with pytest.raises(HostError, match="labels_are='class_ids'"):
        attach(host, labels_are="mapped").loss(features=features, labels=ids)


# --- the first batch against the teacher


@pytest.mark.parametrize("wrong", ["permuted", "random features", "unscaled features"])
@pytest.mark.parametrize("reading", READINGS)
def test_rows_that_are_not_of_their_classes(toy_data: GZSLData, reading: str, wrong: str) -> None:
    """The teacher's agreement is named, there and on its own training rows."""
    generator = torch.Generator().manual_seed(0)
    rows, ids = toy_data.train_features, toy_data.train_labels
    if wrong == "permuted":
        ids = ids[torch.randperm(len(ids), generator=generator)]
    else:
        rows = torch.rand(rows.shape, generator=generator) if "random" in wrong else rows * 16
    with pytest.raises(HostError, match=r"teacher agrees with \d?\d%.*100%"):
        batches(toy_data, reading).read(rows, *given(toy_data, reading, ids))


@pytest.mark.parametrize("wrong", ["permuted", "random features"])
@pytest.mark.parametrize("reading", READINGS)
def test_attached_d3_refuses_them_too(host: ScriptHost, reading: str, wrong: str) -> None:
    rows, ids = host.data.train_features, host.data.train_labels
    d3 = attach(host, labels_are="mapped" if reading == "mapped" else "class_ids")
    # Every class gets another's labels, or its rows say nothing.
    labels, attributes = given(host.data, reading, ids.roll(20) if wrong == "permuted" else ids)
    noise = torch.rand(rows.shape, generator=torch.Generator().manual_seed(0))
    with pytest.raises(HostError, match=r"\d%.*\d%"):
        d3.loss(rows if wrong == "permuted" else noise, labels, attributes)
    assert d3.steps == 0
    d3.loss(rows, *given(host.data, reading, ids))
    assert d3.steps == 1


@pytest.mark.parametrize("wrong", ["scaled", "shifted"])
@pytest.mark.parametrize("reading", READINGS)
def test_rows_of_another_scale_that_the_teacher_knows(
    toy_data: GZSLData, reading: str, wrong: str
) -> None:
    rows, ids = toy_data.train_features, toy_data.train_labels
    labels, attributes = given(toy_data, reading, ids)
    other = rows / 2 if wrong == "scaled" else rows + 0.3

    class Knowing(torch.nn.Module):
        def forward(self, features: Tensor) -> tuple[Tensor, None]:
            own = rows if features.data_ptr() == rows.data_ptr() else other
            nearest = torch.cdist(features, own).argmin(dim=1)
            return F.one_hot(torch.searchsorted(toy_data.seen_classes, ids)[nearest], 4), None

    form = "mapped" if reading == "mapped" else "class_ids"
    read = HostBatches(toy_data, Knowing(), form).read
    expected = r"0\.5 times as long.*Scale data=" if wrong == "scaled" else r"spread away"
    with pytest.warns(D3Warning, match=expected):
        read(other, labels, attributes)
    read(other, labels, attributes)  # once
    noisy = rows + 0.1 * torch.randn(rows.shape, generator=torch.Generator().manual_seed(0))
    for good in (rows, noisy):  # loops that add noise are right
        batches(toy_data, reading).read(good, labels, attributes)


@pytest.mark.parametrize("reading", READINGS)
def test_a_teacher_that_knows_nothing_stops_no_host(toy_data: GZSLData, reading: str) -> None:
    """A quarter of the rows is right by chance; 5 % noise in the labels stops none either."""
    ids = toy_data.train_labels
    ignorant = batches(toy_data, reading, share=0.0)
    ignorant.read(toy_data.train_features, *given(toy_data, reading, ids.flip(0)))
    noisy = ids.clone()
    noisy[::20] = 0
    batches(toy_data, reading).read(toy_data.train_features, *given(toy_data, reading, noisy))


@pytest.mark.parametrize("reading", READINGS)
def test_later_batches_are_not_held_against_the_teacher(toy_data: GZSLData, reading: str) -> None:
    read = batches(toy_data, reading).read
    rows, ids = toy_data.train_features, toy_data.train_labels
    empty = torch.zeros(0, dtype=torch.long)
    read(rows[:0], *given(toy_data, reading, empty))  # says nothing, so the next is the first
    with pytest.raises(HostError):
        read(rows, *given(toy_data, reading, ids.flip(0)))
    read(rows, *given(toy_data, reading, ids))
    _, found = read(rows, *given(toy_data, reading, ids.flip(0)))
    assert torch.equal(found, ids.flip(0))


@pytest.mark.parametrize("garbage", [-1, 99, 2**40])
@pytest.mark.parametrize("reading", ["class_ids", "mapped"])
def test_labels_out_of_range(toy_data: GZSLData, reading: str, garbage: int) -> None:
    labels, _ = given(toy_data, reading, toy_data.train_labels)
    labels = labels.clone()
    labels[7] = garbage
    with pytest.raises(HostError, match=f"not {reading}"):
        batches(toy_data, reading).read(toy_data.train_features, labels, None)


@pytest.mark.parametrize("reading", ["class_ids", "attributes"])
def test_rows_of_unseen_classes(toy_data: GZSLData, reading: str) -> None:
    ids = torch.tensor([0, 1, 4, 4])
    with pytest.raises(HostError, match="not class_ids" if reading == "class_ids" else r"\[1, 4\]"):
        batches(toy_data).read(toy_data.train_features[:4], *given(toy_data, reading, ids))


@pytest.mark.parametrize("bad", [-1, -100, 255, "unseen"])
@pytest.mark.parametrize("reading", ["class_ids", "mapped"])
def test_bad_labels_in_the_thirtieth_batch(toy_data: GZSLData, reading: str, bad: object) -> None:
    value = {"class_ids": 4, "mapped": 5}[reading] if bad == "unseen" else bad
    read, rows = batches(toy_data, reading).read, toy_data.train_features
    labels, _ = given(toy_data, reading, toy_data.train_labels)
    for _ in range(29):
        read(rows, labels, None)
    later = labels.clone()
    later[3] = value
    with pytest.raises(HostError, match=rf"1 of 80 are none, such as \[{value}\]"):
        read(rows, later, None)


@pytest.mark.parametrize("wrong", ["permuted", "scaled"])
@pytest.mark.parametrize("reading", READINGS)
def test_rows_that_change_later(toy_data: GZSLData, reading: str, wrong: str) -> None:
    ids, rows = toy_data.train_labels, toy_data.train_features
    both = batches(toy_data, reading)
    logits = F.one_hot(torch.searchsorted(toy_data.seen_classes, ids), 4).float()
    for _ in range(3):
        both.note(*both.read(rows, *given(toy_data, reading, ids)), logits)
    both.look()
    for _ in range(3):
        shown = rows * 16 if wrong == "scaled" else rows
        seen_as = logits.roll(20, 0) if wrong == "permuted" else logits
        both.note(*both.read(shown, *given(toy_data, reading, ids)), seen_as)
    with pytest.warns(D3Warning, match="do not fit the classes given with them"):
        both.look()


@pytest.mark.parametrize(
    "form",
    [
        lambda ids: ids.numpy(),
        lambda ids: ids.tolist(),
        lambda ids: ids[:, None],
        lambda ids: ids.float(),
        lambda ids: ids.to(torch.float8_e4m3fn),
        lambda ids: ids[:, None].double().numpy(),
    ],
    ids=["array", "list", "column", "whole floats", "float8", "column of an array"],
)
def test_labels_of_other_kinds(toy_data: GZSLData, form: Callable[[Tensor], object]) -> None:
    ids = toy_data.train_labels
    for rows in (toy_data.train_features, toy_data.train_features.numpy()):
        _, found = batches(toy_data).read(rows, form(ids), None)
        assert torch.equal(found, ids)


@pytest.mark.parametrize(
    ("form", "match"),
    [
        (lambda ids: F.one_hot(ids, 6), r"\(80, 6\).*as one-hot rows are; pass one number"),
        (lambda ids: F.one_hot(ids, 6).float(), "one-hot"),
        (
            lambda ids: ["abcdef"[i] for i in ids],
            r"class names \('a', 'a', 'a', ...\); pass class ids",
        ),
        (lambda ids: np.array(["abcdef"[i] for i in ids]), "class names"),
        (lambda ids: ids + 0.5, "integer labels"),
    ],
    ids=["one-hot", "floating one-hot", "names", "array of names", "halves"],
)
def test_labels_that_are_refused(
    toy_data: GZSLData, form: Callable[[Tensor], object], match: str
) -> None:
    with pytest.raises(HostError, match=match):
        batches(toy_data).read(toy_data.train_features, form(toy_data.train_labels), None)


def test_a_loader_that_goes_class_by_class(toy_data: GZSLData) -> None:
    """The first batch, of class 0, is the same in both forms and settles nothing."""
    rows, ids = toy_data.train_features, toy_data.train_labels
    read = batches(toy_data).read
    read(rows[:20], torch.zeros(20, dtype=torch.long), None)
    assert ids[60] == 5
    with pytest.raises(HostError, match="labels_are='mapped'"):
        read(rows[40:60], torch.full((20,), 2), None)  # mapped: the third seen class, 3


# --- attributes


def test_rows_that_are_no_class(toy_data: GZSLData) -> None:
    attributes = toy_data.attributes[toy_data.train_labels[:6]].clone()
    wrong = attributes.clone()
    wrong[1] += 0.02  # another direction
    wrong[2] = -wrong[2]
    wrong[3] = 0
    wrong[4] = float("nan")
    read = batches(toy_data).read
    with pytest.raises(HostError, match=r"of 6 .*labels="):
        read(toy_data.train_features[:6], None, wrong)
    read(toy_data.train_features[:6], None, attributes)


@pytest.mark.parametrize("twin", [1, 3])
def test_two_classes_with_the_same_attributes(toy_data: GZSLData, twin: int) -> None:
    attributes = toy_data.attributes.clone()
    attributes[twin] = 3 * attributes[2]
    data = replace(toy_data, attributes=attributes)
    pair = tuple(sorted((2, twin)))
    with pytest.raises(HostError, match=rf"\[\({pair[0]}, {pair[1]}\)\].*labels="):
        batches(data).read(data.train_features[:1], None, attributes[:1])


def test_two_unseen_classes_with_the_same_attributes_do_no_harm(toy_data: GZSLData) -> None:
    attributes = toy_data.attributes.clone()
    attributes[1] = attributes[4]
    data = replace(toy_data, attributes=attributes)
    labels = data.train_labels[::9]
    _, found = batches(data).read(data.train_features[::9], None, attributes[labels])
    assert torch.equal(found, labels)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"labels": torch.zeros(4, dtype=torch.long)}, "labels= or attributes="),
        ({"features": None}, "labels= or attributes="),
        ({"attributes": torch.zeros(3, 5)}, r"5\).*\(3, 5\)"),
        ({"attributes": torch.zeros(4, 6)}, r"5\).*\(4, 6\)"),
        ({"attributes": torch.zeros(4, 5, dtype=torch.long)}, "torch.int64"),
    ],
)
def test_bad_calls(host: ScriptHost, change: dict[str, Tensor | None], match: str) -> None:
    rows, attributes = host.data.train_features[:4], host.data.attributes[[0, 0, 0, 0]]
    with pytest.raises(HostError, match=match):
        attach(host).loss(**({"features": rows, "attributes": attributes} | change))


def test_empty_batch(host: ScriptHost) -> None:
    assert torch.isfinite(attach(host).loss(torch.zeros(0, 12), attributes=torch.zeros(0, 5)))
