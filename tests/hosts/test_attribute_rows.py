"""Batches without labels: classes recovered from attribute rows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from d3_plugin import HostError
from d3_plugin.data import GZSLData
from d3_plugin.hosts.attribute_rows import AttributeRows
from tests.toys import ScriptHost, VAEHost, attach


class Knowing(torch.nn.Module):
    """A teacher that is right on the given share of the data's training rows."""

    def __init__(self, data: GZSLData, share: float) -> None:
        super().__init__()
        self.rows = data.train_features
        self.positions = torch.searchsorted(data.seen_classes, data.train_labels)
        self.positions[int(share * len(self.positions)) :] = 0

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, None]:
        nearest = torch.cdist(features, self.rows).argmin(dim=1)
        return F.one_hot(self.positions[nearest], 4).float(), None


def rows(data: GZSLData) -> AttributeRows:
    return AttributeRows(data, Knowing(data, 1.0))


@pytest.mark.parametrize("form", ["raw", "normalised", "scaled", "half", "bfloat16"])
def test_classes_are_those_of_the_rows(toy_data: GZSLData, form: str) -> None:
    labels = toy_data.train_labels[::3]
    attributes = toy_data.attributes[labels]
    given = {
        "raw": attributes,
        "normalised": F.normalize(attributes, dim=1),
        "scaled": attributes * torch.linspace(0.01, 100, len(labels))[:, None],
        "half": attributes.half(),
        "bfloat16": attributes.bfloat16(),
    }[form]
    with torch.autocast("cpu", dtype=torch.bfloat16):  # a product in bfloat16 would match nothing
        found = rows(toy_data).class_ids(toy_data.train_features[::3], given)
    assert torch.equal(found, labels)


def test_same_step_as_with_labels(toy_data: GZSLData) -> None:
    losses = []
    for by_labels in (True, False):
        host = VAEHost(toy_data)
        d3 = host.attach()
        labels = toy_data.train_labels[::7]
        known = {"labels": labels} if by_labels else {"attributes": host.attribute[labels]}
        d3.loss(toy_data.train_features[::7], **known)
        losses.append(torch.stack([d3.values[name] for name in sorted(d3.values)]))
    assert torch.equal(*losses)


def test_rows_that_are_no_class(toy_data: GZSLData) -> None:
    attributes = toy_data.attributes[toy_data.train_labels[:6]].clone()
    features = toy_data.train_features[:6]
    matcher = rows(toy_data)
    wrong = attributes.clone()
    wrong[1] += 0.02  # another direction
    wrong[2] = -wrong[2]
    wrong[3] = 0
    wrong[4] = float("nan")
    with pytest.raises(HostError, match=r"4 of 6 rows are no class's.*or pass labels="):
        matcher.class_ids(features, wrong)
    matcher.class_ids(features, attributes)
    with pytest.raises(HostError, match="4 of 6 rows"):  # and in every later batch on the CPU
        matcher.class_ids(features, wrong)


def test_rows_of_unseen_classes(toy_data: GZSLData) -> None:
    attributes = toy_data.attributes[torch.tensor([0, 1, 4, 4])]
    with pytest.raises(HostError, match=r"3 of 4 rows are unseen classes' \(\[1, 4\]\)"):
        rows(toy_data).class_ids(toy_data.train_features[:4], attributes)


def test_every_problem_is_listed(toy_data: GZSLData) -> None:
    attributes = toy_data.attributes[torch.tensor([0, 1])].clone()
    attributes[0, 0] += 1
    with pytest.raises(HostError, match=r"(?s)2 problems.*no class's.*unseen classes'"):
        rows(toy_data).class_ids(toy_data.train_features[:2], attributes)


@pytest.mark.parametrize("twin", [1, 3])
def test_two_classes_with_the_same_attributes(toy_data: GZSLData, twin: int) -> None:
    attributes = toy_data.attributes.clone()
    attributes[twin] = 3 * attributes[2]
    data = replace(toy_data, attributes=attributes)
    pair = tuple(sorted((2, twin)))
    with pytest.raises(HostError, match=rf"\[\({pair[0]}, {pair[1]}\)\]. Pass labels="):
        rows(data).class_ids(data.train_features[:1], attributes[:1])


def test_two_unseen_classes_with_the_same_attributes_do_no_harm(toy_data: GZSLData) -> None:
    attributes = toy_data.attributes.clone()
    attributes[1] = attributes[4]
    data = replace(toy_data, attributes=attributes)
    labels = data.train_labels[::9]
    found = rows(data).class_ids(data.train_features[::9], attributes[labels])
    assert torch.equal(found, labels)


def test_attributes_of_other_rows(toy_data: GZSLData) -> None:
    """The teacher knows the rows; a stale attribute buffer is noticed in the first batch."""
    labels = toy_data.train_labels[::2]
    features = toy_data.train_features[::2]
    stale = toy_data.attributes[labels.flip(0)]
    with pytest.raises(HostError, match=r"agrees with 0%.*100% on the training rows"):
        rows(toy_data).class_ids(features, stale)
    ignorant = AttributeRows(toy_data, Knowing(toy_data, 0.0))  # 25 %: all are of the first class
    ignorant.class_ids(features, stale)  # cannot tell, and must not stop the host
    checked = rows(toy_data)
    checked.class_ids(features, toy_data.attributes[labels])
    checked.class_ids(features, stale)  # only the first batch is held against the teacher


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"labels": torch.zeros(4, dtype=torch.long)}, "labels and attributes"),
        ({"features": None}, "got attributes"),
        ({"attributes": torch.zeros(3, 5)}, r"attributes \(4, 5\).*\(3, 5\)"),
        ({"attributes": torch.zeros(4, 6)}, r"attributes \(4, 5\).*\(4, 6\)"),
        ({"attributes": torch.zeros(4, 5, dtype=torch.long)}, "torch.int64"),
    ],
)
def test_bad_calls(toy_data: GZSLData, given: dict[str, object], match: str) -> None:
    d3 = attach(ScriptHost(toy_data))
    call = {
        "features": toy_data.train_features[:4],
        "attributes": toy_data.attributes[[0, 0, 2, 3]],
    }
    with pytest.raises(HostError, match=match):
        d3.loss(**(call | given))


def test_empty_batch(toy_data: GZSLData) -> None:
    d3 = attach(ScriptHost(toy_data))
    assert torch.isfinite(d3.loss(torch.zeros(0, 12), attributes=torch.zeros(0, 5)))
