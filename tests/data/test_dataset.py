"""What GZSLData converts at the door."""

from __future__ import annotations

from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from d3_plugin.data import GZSLData, pseudo_unseen
from d3_plugin.data.host_data import as_gzsl_data
from d3_plugin.errors import DataError

IDS = ("train_labels", "test_seen_labels", "test_unseen_labels", "seen_classes", "unseen_classes")
ROWS = ("train_features", "test_seen_features", "test_unseen_features", "attributes")


def same(one: GZSLData, other: GZSLData) -> bool:
    return all(
        torch.equal(getattr(one, f.name), getattr(other, f.name))
        for f in fields(GZSLData)
        if f.type == "Tensor"
    )


@pytest.mark.parametrize(
    "dtype", ["uint8", "uint16", "uint32", "int8", "int16", "int32", "float64"]
)
def test_ids_of_any_type(toy_data: GZSLData, dtype: str) -> None:
    changes: dict[str, Any] = {
        name: getattr(toy_data, name).to(getattr(torch, dtype)) for name in IDS
    }
    data = replace(toy_data, **changes)
    assert all(getattr(data, name).dtype == torch.int64 for name in IDS)
    assert same(data, toy_data)
    assert same(pseudo_unseen(data), pseudo_unseen(toy_data))
    arrays: dict[str, Any] = {name: part.numpy() for name, part in changes.items()}
    assert same(replace(toy_data, **arrays), toy_data)


def test_uint8_labels_are_no_mask(toy_data: GZSLData) -> None:
    """PyTorch indexes with uint8 as with a mask, silently where the lengths agree."""
    labels = torch.tensor([3, 0, 2, 5, 3, 0], dtype=torch.uint8)
    data = replace(toy_data, train_labels=labels, train_features=toy_data.train_features[:6])
    picked = data.attributes[data.train_labels]
    assert torch.equal(picked, data.attributes[[3, 0, 2, 5, 3, 0]])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.uint8])
def test_features_of_any_type(toy_data: GZSLData, dtype: torch.dtype) -> None:
    changes: dict[str, Any] = {name: getattr(toy_data, name).to(dtype) for name in ROWS}
    data = replace(toy_data, **changes)
    for name in ROWS:
        assert getattr(data, name).dtype == torch.float32
        assert torch.equal(getattr(data, name), changes[name].float())


def test_big_endian_reversed_and_read_only_arrays(toy_data: GZSLData) -> None:
    features = toy_data.train_features.numpy().astype(">f8")
    labels = toy_data.train_labels.numpy()[::-1][::-1].astype(">u2")
    features.flags.writeable = False
    changes: dict[str, Any] = {"train_features": features, "train_labels": labels}
    changes["seen_classes"] = np.array([5, 3, 2, 0])[::-1]
    assert same(replace(toy_data, **changes), toy_data)


def test_too_large_for_float32(toy_data: GZSLData) -> None:
    attributes = toy_data.attributes.double()
    attributes[4, 0] = 1e39
    with pytest.raises(DataError, match=r"attributes: 1 classes \(4\) with NaN or Inf"):
        replace(toy_data, attributes=attributes)


def test_a_mask_is_no_list_of_ids(toy_data: GZSLData) -> None:
    mask: Any = torch.tensor([True, False, True, True, False, True])
    with pytest.raises(DataError, match=r"seen_classes is a tensor .* of torch.bool"):
        replace(toy_data, seen_classes=mask)


def test_a_loader_object_gives_the_same(toy_data: GZSLData) -> None:
    """Also with its classes out of order, and float labels in a column."""
    data = toy_data
    loader = SimpleNamespace(
        train_feature=data.train_features.double().numpy(),
        train_label=data.train_labels.double()[:, None],
        test_seen_feature=data.test_seen_features,
        test_seen_label=data.test_seen_labels.numpy().astype(np.uint8),
        test_unseen_feature=data.test_unseen_features,
        test_unseen_label=data.test_unseen_labels,
        attribute=data.attributes,
        seenclasses=data.seen_classes.flip(0),
        unseenclasses=data.unseen_classes.flip(0).numpy(),
    )
    assert same(as_gzsl_data(loader), data)
