"""What GZSLData converts at the door, and the ways in and out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from d3_plugin.data import GZSLData, load_mat_folder, pseudo_unseen
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


def as_loader(data: GZSLData) -> SimpleNamespace:
    """With classes out of order, and float labels in a column."""
    return SimpleNamespace(
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


def test_a_loader_object_gives_the_same(toy_data: GZSLData) -> None:
    assert same(as_gzsl_data(as_loader(toy_data)), toy_data)


def as_arrays(data: GZSLData) -> dict[str, Any]:
    """Arguments of from_arrays, with two rows that belong to no set and a class without rows."""
    parts = ("train", "test_seen", "test_unseen")
    features = torch.cat([getattr(data, f"{part}_features") for part in parts])
    labels = torch.cat([getattr(data, f"{part}_labels") for part in parts])
    sizes = [len(getattr(data, f"{part}_labels")) for part in parts]
    starts = np.cumsum([1, *sizes])
    sets = {p: np.arange(a, a + n) for p, a, n in zip(parts, starts[:3], sizes, strict=True)}
    extra = torch.full((1, data.feature_dim), torch.nan)
    return {
        "features": torch.cat([extra, features, extra]).numpy(),
        "labels": torch.cat([torch.tensor([6]), labels, torch.tensor([2])]).numpy(),
        "attributes": torch.cat([data.attributes, data.attributes[:1] + 1]).numpy(),
        **sets,
        "class_names": [*data.class_names, "g"],
    }


class Frame:
    """Stands in for a pandas object: an array is to be had by asking."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self.values, dtype=dtype)


KINDS: dict[str, Callable[[Any], Any]] = {
    "numpy": lambda value: value,
    "torch": torch.from_numpy,
    "pandas": Frame,
    "lists": lambda value: value.tolist(),
    "floats": lambda value: value.astype(np.float64),
    "masks": lambda value: np.isin(np.arange(126), value) if value.dtype == "int64" else value,
}


@pytest.mark.parametrize("kind", KINDS)
def test_from_arrays(toy_data: GZSLData, kind: str) -> None:
    given = as_arrays(toy_data)
    assert len(given["labels"]) == 126
    for name in ("features", "labels", "attributes", "train", "test_seen", "test_unseen"):
        if kind != "masks" or name.startswith("t"):
            given[name] = KINDS[kind](given[name])
    data = GZSLData.from_arrays(**given)
    assert same(data, toy_data)
    assert data.class_names == toy_data.class_names


def test_from_pandas(toy_data: GZSLData) -> None:
    pandas = pytest.importorskip("pandas")
    given = as_arrays(toy_data)
    given |= {k: pandas.DataFrame(given[k]) for k in ("features", "attributes")}
    table = pandas.DataFrame({"label": given["labels"]})
    for part in ("train", "test_seen"):
        given[part] = table.index.isin(given[part])
    given |= {"labels": table["label"].astype("Int64"), "unseen_classes": [1, 4]}
    del given["test_unseen"]
    assert same(GZSLData.from_arrays(**given), toy_data)


def test_from_arrays_by_unseen_classes(toy_data: GZSLData) -> None:
    given = as_arrays(toy_data)
    del given["test_unseen"]
    assert same(GZSLData.from_arrays(**given, unseen_classes=[4, 1]), toy_data)
    with pytest.raises(DataError, match="give either test_unseen or unseen_classes"):
        GZSLData.from_arrays(**given)


def test_from_arrays_lists_everything(toy_data: GZSLData) -> None:
    given = as_arrays(toy_data)
    given["features"][3, 0] = np.inf
    given["attributes"] = given["attributes"][:5]
    given["train"] = [*given["train"], 500, 1]
    given["class_names"] = "ab"
    with pytest.raises(DataError) as caught:
        GZSLData.from_arrays(**given, unseen_classes=[1], name="mine")
    assert str(caught.value).split("\n  - ") == [
        "data set 'mine': 6 problems:",
        "give either test_unseen or unseen_classes",
        "class_names holds 2 names for 5 classes; give one for each, or none",
        "train: 1 rows (1) more than once",
        "train: 1 rows (500) out of range; expected 0..125, counted from 0",
        "train: 1 rows (3) with NaN or Inf in features",
        "train: 1 classes (5) without attributes; expected 0..4",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"unseen_classes": [1, 7, -1]},
            r"unseen_classes: 2 ids \(7, -1\) without rows; labels: 7",
        ),
        (
            {"attributes": np.ones((126, 5))},
            "attributes holds 126 rows for 7 classes: the highest label is 6",
        ),
        ({"train": np.ones(125, dtype=bool)}, "train is a mask of 125 rows; there are 126"),
    ],
)
def test_from_arrays_says_what_a_value_is(
    toy_data: GZSLData, change: dict[str, Any], message: str
) -> None:
    given = as_arrays(toy_data)
    del given["test_unseen"], given["class_names"]
    with pytest.raises(DataError, match=message):
        GZSLData.from_arrays(**(given | {"unseen_classes": [1, 4]} | change))


def test_save_and_load(toy_data: GZSLData, tmp_path: Path) -> None:
    names = ("Ärger", "b c", "ж", "d", "e" * 100, "f")
    data = replace(toy_data, class_names=names, name="toys")
    data.save(tmp_path / "new" / "toys")
    loaded = load_mat_folder(tmp_path / "new" / "toys")
    assert same(loaded, data)
    assert (loaded.name, loaded.class_names) == (data.name, data.class_names)


def test_repr_is_one_line(toy_data: GZSLData) -> None:
    assert repr(toy_data) == (
        "GZSLData('toy', 4 seen and 2 unseen classes, features 80 + 24 + 20 x 12, attributes 5)"
    )


def test_scaling_is_fitted_on_training_rows_alone(toy_data: GZSLData) -> None:
    def rows(*values: float) -> torch.Tensor:
        return torch.tensor(values)[:, None].repeat(1, 12)

    seen, unseen = toy_data.seen_classes, toy_data.unseen_classes
    data = replace(
        toy_data,
        scaling=None,
        train_features=rows(2.0, 4.0, 3.0, 6.0),
        train_labels=seen,
        test_seen_features=rows(-2.0, 10.0, 2.0, 6.0),
        test_seen_labels=seen,
        test_unseen_features=rows(22.0, 3.0),
        test_unseen_labels=unseen,
    ).scaled()
    assert data.train_features[:, 0].tolist() == [0.0, 0.5, 0.25, 1.0]
    assert data.test_seen_features[:, 0].tolist() == [-1.0, 2.0, 0.0, 1.0]
    assert data.test_unseen_features[:, 0].tolist() == [5.0, 0.25]
    assert data.scaling is not None
    assert data.scaling[:, 0].tolist() == [0.25, -0.5]
    again = replace(data, train_features=2 * data.train_features).scaled()
    assert again.scaling is not None
    assert again.scaling[:, 0].tolist() == [0.125, -0.25], "of the features in the file"
