"""pandas and Arrow objects: their dtypes, and an index that contradicts the order of rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d3_plugin.data import GZSLData
from d3_plugin.data.host_data import as_gzsl_data
from d3_plugin.errors import DataError
from tests.data.test_dataset import as_arrays, as_loader, same

pandas = pytest.importorskip("pandas")
NAMES = list("abcdefg")
RIGHT = {
    "range": range(7),
    "ids": np.arange(7.0),
    "names": NAMES,
    "category": pandas.CategoricalIndex(NAMES),
    "digits": list("0123456"),
}


def frames(data: GZSLData) -> dict[str, Any]:
    given = as_arrays(data)
    given |= {k: pandas.DataFrame(given[k]) for k in ("features", "attributes")}
    given["labels"] = pandas.Series(given["labels"])
    return given


@pytest.mark.parametrize("kind", RIGHT)
def test_an_index_in_the_order_of_the_classes(toy_data: GZSLData, kind: str) -> None:
    given = frames(toy_data)
    given["attributes"].index = RIGHT[kind]
    data = GZSLData.from_arrays(**given)
    assert same(data, toy_data)
    del given["class_names"]
    named = GZSLData.from_arrays(**given)
    first = "a" if kind in ("names", "category") else "class 0"
    assert same(named, toy_data)
    assert named.class_names[0] == first


WRONG = {
    "reversed names": (NAMES[::-1], "class_names"),
    "other names": ([*"tuvwxyz"], "class_names"),
    "reversed ids": (range(6, -1, -1), "0..6"),
    "from 1": (range(1, 8), "0..6"),
    "ids with gaps": ([0, 1, 2, 3, 5, 8, 13], "0..6"),
    "reversed digits": (list("6543210"), "0..6"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_an_index_in_another_order(toy_data: GZSLData, kind: str) -> None:
    """At every way in; the advice is followed."""
    index, expected = WRONG[kind]
    given = frames(toy_data)
    right = given["attributes"]
    given["attributes"] = right.set_axis(index)
    with pytest.raises(DataError) as caught:
        GZSLData.from_arrays(**given)
    assert f"instead of {expected}: order its rows, attributes.loc[" in str(caught.value)
    assert same(GZSLData.from_arrays(**given | {"attributes": right.to_numpy()}), toy_data)
    rows = pandas.DataFrame(toy_data.attributes.numpy()).set_axis(list(index)[:6])
    with pytest.raises(DataError, match="attributes has an index"):
        replace(toy_data, attributes=rows)
    if "names" not in kind:  # a loader has no names to compare with
        loader = as_loader(toy_data)
        loader.attribute = rows
        with pytest.raises(DataError, match="attribute has an index"):
            as_gzsl_data(loader)


def test_the_advice_to_order_by_name(toy_data: GZSLData) -> None:
    given = frames(toy_data)
    given["attributes"].index = NAMES
    given["attributes"] = given["attributes"].iloc[::-1].loc[given["class_names"]]
    assert same(GZSLData.from_arrays(**given), toy_data)


@pytest.mark.parametrize("name", ["labels", "train"])
def test_the_same_rows_in_another_order(toy_data: GZSLData, name: str) -> None:
    given = frames(toy_data)
    if name == "train":
        given["train"] = pandas.Series(np.isin(np.arange(126), given["train"]))
    given[name] = given[name].iloc[::-1]
    with pytest.raises(DataError, match=f"features and {name} have the same index in another ord"):
        GZSLData.from_arrays(**given)
    labels = pandas.Series(toy_data.train_labels.numpy()).iloc[::-1]
    features = pandas.DataFrame(toy_data.train_features.numpy())
    with pytest.raises(DataError, match="have the same index in another order"):
        replace(toy_data, train_labels=labels, train_features=features)


def nullable(values: np.ndarray) -> Any:
    dtype = {"i": "Int64", "f": "Float64", "b": "boolean"}[values.dtype.kind]
    return pandas.DataFrame(values).astype(dtype)


def arrow(values: np.ndarray) -> Any:
    pytest.importorskip("pyarrow")
    dtype = {"i": "int64[pyarrow]", "f": "double[pyarrow]", "b": "bool[pyarrow]"}
    return pandas.DataFrame(values).astype(dtype[values.dtype.kind])


def category(values: np.ndarray) -> Any:
    return pandas.DataFrame(values).astype("category" if values.ndim == 1 else None)


TABLES = {"nullable": nullable, "arrow": arrow, "category": category}


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("kind", TABLES)
def test_dtypes_of_columns(toy_data: GZSLData, kind: str, masks: bool) -> None:
    given = as_arrays(toy_data)
    for name, value in given.items():
        if name != "class_names":
            as_mask = masks and name.startswith("t")
            value = np.isin(np.arange(126), value) if as_mask else value
            given[name] = TABLES[kind](value.astype(float) if value.dtype == np.float32 else value)
    assert same(GZSLData.from_arrays(**given), toy_data)


def test_missing_values_are_problems(toy_data: GZSLData) -> None:
    given = as_arrays(toy_data)
    features = nullable(given["features"].astype(float))
    features.iloc[3, 0] = pandas.NA
    labels = pandas.Series(given["labels"]).astype("Int64")
    labels[5] = pandas.NA
    with pytest.raises(DataError, match=r"train: 1 rows \(3\) with NaN or Inf in features"):
        GZSLData.from_arrays(**given | {"features": features})
    with pytest.raises(DataError, match=r"labels: 1 values \(nan\) that are not integers"):
        GZSLData.from_arrays(**given | {"labels": labels})


def test_text_is_not_read_as_numbers(toy_data: GZSLData) -> None:
    given = as_arrays(toy_data)
    for labels in (given["labels"].astype(str), given["labels"].astype(str).astype(object)):
        with pytest.raises(DataError, match="labels is a Series; expected a vector of integers"):
            GZSLData.from_arrays(**given | {"labels": pandas.Series(labels)})
        categories = pandas.Series(labels, dtype="category")
        with pytest.raises(DataError, match="labels is a Series; expected a vector of integers"):
            GZSLData.from_arrays(**given | {"labels": categories})


def test_parquet_with_a_column_of_vectors(toy_data: GZSLData, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    given = as_arrays(toy_data)
    table = pandas.DataFrame({"vector": list(given["features"]), "label": given["labels"]})
    table["train"] = table.index.isin(given["train"])
    table.to_parquet(tmp_path / "rows.parquet")
    for backend in ("numpy_nullable", "pyarrow"):
        read = pandas.read_parquet(tmp_path / "rows.parquet", dtype_backend=backend)
        changes = {"features": read["vector"], "labels": read["label"], "train": read["train"]}
        assert same(GZSLData.from_arrays(**given | changes), toy_data)
