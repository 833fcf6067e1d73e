"""Data objects of public code bases as they are: every convention gives the same problem."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from d3_plugin.data import GZSLData
from d3_plugin.data.host_data import as_gzsl_data
from d3_plugin.errors import D3Warning, DataError, HostError
from tests.data.test_dataset import as_loader, same


def positions(labels: Tensor, classes: Tensor) -> Tensor:
    """util.map_label of the field's scripts."""
    mapped = torch.empty_like(labels)
    for i, c in enumerate(classes.tolist()):
        mapped[labels == c] = i
    return mapped


def mapped_loader(data: GZSLData, parts: tuple[str, ...], flip: bool = False) -> SimpleNamespace:
    """As SDGZSL and GSMFlow: labels of seen and of unseen rows each count from 0."""
    loader = as_loader(data)
    for part in parts:
        kind = "unseen" if part == "test_unseen" else "seen"
        classes = getattr(data, f"{kind}_classes")
        classes = classes.flip(0) if flip else classes
        setattr(loader, f"{kind}classes", classes.numpy())
        setattr(loader, f"{part}_label", positions(getattr(data, f"{part}_labels"), classes))
    return loader


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    "parts", [("train", "test_seen", "test_unseen"), ("test_unseen",), ("train",)]
)
def test_mapped_labels(toy_data: GZSLData, parts: tuple[str, ...], flip: bool) -> None:
    assert same(as_gzsl_data(mapped_loader(toy_data, parts, flip)), toy_data)


def dictionaries(data: GZSLData) -> SimpleNamespace:
    """As CADA-VAE."""

    def part(name: str) -> dict[str, Any]:
        features, labels = getattr(data, f"{name}_features"), getattr(data, f"{name}_labels")
        return {"resnet_features": features, "labels": labels, "attributes": None}

    return SimpleNamespace(
        data={
            "train_seen": part("train"),
            "train_unseen": {"resnet_features": None, "labels": None},
            "test_seen": part("test_seen"),
            "test_unseen": part("test_unseen"),
        },
        aux_data=data.attributes,
        seenclasses=data.seen_classes,
        novelclasses=data.unseen_classes,
    )


def test_dictionaries_of_splits(toy_data: GZSLData) -> None:
    assert same(as_gzsl_data(dictionaries(toy_data)), toy_data)
    assert same(as_gzsl_data(vars(as_loader(toy_data))), toy_data)


def test_rows_for_absent_classes(toy_data: GZSLData) -> None:
    """Behind the others they change no id; between them they do, which is said."""
    loader = as_loader(toy_data)
    loader.attribute = torch.cat([toy_data.attributes, torch.rand(3, 5)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(as_gzsl_data(loader), toy_data)
    loader.attribute = torch.cat(
        [toy_data.attributes[:2], torch.rand(1, 5), toy_data.attributes[2:]]
    )
    for name in ("train_label", "test_seen_label", "test_unseen_label", "seenclasses"):
        ids = torch.as_tensor(np.asarray(getattr(loader, name)))
        setattr(loader, name, ids + (ids >= 2).to(ids.dtype))
    loader.unseenclasses = np.array([5, 1])
    with pytest.warns(D3Warning, match=r"7 attribute rows, but only 6 .*labels_are='mapped'"):
        assert same(as_gzsl_data(loader), toy_data)


def test_an_unseen_class_without_rows(toy_data: GZSLData) -> None:
    loader = as_loader(toy_data)
    keep = toy_data.test_unseen_labels == 1
    loader.test_unseen_feature = loader.test_unseen_feature[keep]
    loader.test_unseen_label = loader.test_unseen_label[keep]
    with pytest.warns(D3Warning, match=r"1 unseen classes \(4\) without test rows are left out"):
        data = as_gzsl_data(loader)
    assert data.unseen_classes.tolist() == [1]
    assert torch.equal(data.attributes, toy_data.attributes[[0, 1, 2, 3, 5]])


def test_validation_mode_is_named(toy_data: GZSLData) -> None:
    loader = as_loader(toy_data)
    del loader.test_seen_feature, loader.test_seen_label
    with pytest.raises(HostError) as caught:
        as_gzsl_data(loader)
    assert "no attribute 'test_seen_feature' or" in str(caught.value)
    assert "a loader in validation mode has no test rows of seen classes" in str(caught.value)


def test_labels_that_are_neither(toy_data: GZSLData) -> None:
    loader = as_loader(toy_data)
    loader.test_unseen_label = loader.test_unseen_label + 1
    with pytest.raises(DataError, match=r"test_unseen: 2 classes \(2, 5\) that are not unseen"):
        as_gzsl_data(loader)
