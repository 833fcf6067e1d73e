"""Attribute rows that are missing, too many or in another order than the classes."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from d3_plugin.data import GZSLData, attributes_fit, load, load_mat_folder, warn_of_order
from d3_plugin.errors import D3Warning, DataError
from tests.data.mat_folders import BOTH, Variables, make
from tests.data.test_dataset import as_arrays


def related(classes: int, width: int, rows: int = 4, dim: int = 60) -> GZSLData:
    """Features are linear in the attributes, with noise; the last two classes are unseen."""
    random = np.random.default_rng(0)
    attributes = random.normal(size=(classes, width))
    labels = np.repeat(np.arange(classes), rows)
    means = attributes @ random.normal(size=(width, dim))
    features = means[labels] + random.normal(size=(len(labels), dim))
    held_out, seen = np.arange(len(labels)) % rows == 0, labels < classes - 2
    return GZSLData.from_arrays(
        features,
        labels,
        attributes,
        train=seen & ~held_out,
        test_seen=seen & held_out,
        test_unseen=~seen,
    )


def by_loop(data: GZSLData) -> int:
    """The definition, one class after the other."""
    seen = data.seen_classes
    means = torch.stack([data.train_features[data.train_labels == c].mean(dim=0) for c in seen])
    x, y = data.attributes[seen].double().numpy(), means.double().numpy()
    strength = 0.03 * ((x - x.mean(axis=0)) ** 2).sum(axis=1).mean()
    found = 0
    for c in range(len(seen)):
        others = np.arange(len(seen)) != c
        # The intercept is not penalised: centred on the classes that are left.
        a, b = x[others].mean(axis=0), y[others].mean(axis=0)
        gram = (x[others] - a).T @ (x[others] - a) + strength * np.eye(x.shape[1])
        weight = np.linalg.solve(gram, (x[others] - a).T @ (y[others] - b))
        predicted = (x[c] - a) @ weight + b
        found += int(np.linalg.norm(y - predicted, axis=1).argmin() == c)
    return found


@pytest.mark.parametrize("width", [3, 8, 40])
def test_the_closed_form_is_the_definition(width: int) -> None:
    data = related(30, width)
    assert attributes_fit(data) == (by_loop(data), 28)


def shuffled(data: GZSLData, how: str) -> GZSLData:
    attributes = data.attributes
    if how == "shifted":
        return replace(data, attributes=attributes.roll(1, dims=0))
    order = torch.randperm(len(attributes), generator=torch.Generator().manual_seed(int(how)))
    return replace(data, attributes=attributes[order])


@pytest.mark.parametrize("how", ["shifted", "0", "1", "2"])
def test_another_order_is_noticed(how: str) -> None:
    data = related(40, 8)
    assert attributes_fit(data)[0] > 30
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_order(data)
    with pytest.warns(D3Warning, match=r"\d of 38 seen classes are found, no more than by cha"):
        warn_of_order(shuffled(data, how))


@pytest.mark.parametrize("name", ["cub50", "cub127", "flo64"])
def test_real_attributes(shared_data: Path, name: str) -> None:
    if not (shared_data / name).is_dir():
        pytest.skip(f"no {name} in the real data")
    data = load(shared_data / name)
    found = {"cub50": (10, 40), "cub127": (36, 94), "flo64": (27, 82)}
    assert attributes_fit(data) == pytest.approx(found[name], abs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_order(data)
    for how in ("shifted", "0", "1"):
        with pytest.warns(D3Warning, match="may be in another order than the classes"):
            warn_of_order(shuffled(data, how))


def test_transposed_attributes_of_as_many_classes() -> None:
    data = related(40, 40, dim=100)
    # With as many attributes as classes nothing is left to predict; few directions matter here.
    low = torch.linalg.svd(data.attributes)
    attributes = low.U[:, :6] @ torch.diag(low.S[:6]) @ low.Vh[:6]
    weight = torch.randn(40, 100, generator=torch.Generator().manual_seed(0))
    features = (attributes @ weight)[data.train_labels]
    data = replace(data, attributes=attributes, train_features=features)
    assert attributes_fit(data)[0] > 25
    with pytest.warns(D3Warning, match=r"transposed they find \d+: pass attributes\.T"):
        warn_of_order(replace(data, attributes=data.attributes.T))


@pytest.mark.parametrize("draw", range(6))
def test_few_classes_cannot_tell(draw: int) -> None:
    data = load(f"digits-{draw}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(5):
            warn_of_order(shuffled(data, str(seed)))
        warn_of_order(replace(data, attributes=torch.zeros_like(data.attributes)))


def test_many_classes_are_fast() -> None:
    data = related(717, 102, rows=3, dim=2048)
    start = time.perf_counter()
    attributes_fit(data)
    assert time.perf_counter() - start < 10


# --- rows of something else -------------------------------------------------------------------


def test_more_rows_than_classes(toy_data: GZSLData) -> None:
    """Vectors of 85 attribute names are not the vectors of 50 classes."""
    given = as_arrays(toy_data)
    names = given.pop("class_names")
    given["attributes"] = np.random.default_rng(0).random((85, 5))
    with pytest.raises(DataError, match="attributes holds 85 rows for 7 classes: the highest lab"):
        GZSLData.from_arrays(**given)
    with pytest.raises(DataError, match="class_names holds 7 names for 85 classes"):
        GZSLData.from_arrays(**given, class_names=names)
    data = GZSLData.from_arrays(**given, class_names=[f"class {c}" for c in range(85)])
    assert np.array_equal(data.attributes.numpy(), given["attributes"][:6].astype(np.float32))


@BOTH
def test_more_columns_than_classes(tmp_path: Path, version: str) -> None:
    def change(res: Variables, att: Variables) -> None:
        att["att"] = np.random.default_rng(0).random((4, 9))
        del att["allclasses_names"]

    folder = make(tmp_path, change, version)
    message = "att holds 9 rows for 5 classes: the highest label is 5; .* or give allclasses_names"
    with pytest.raises(DataError, match=message):
        load_mat_folder(folder)


def test_transposed_where_the_last_classes_have_no_rows(toy_data: GZSLData) -> None:
    given = as_arrays(toy_data)
    del given["class_names"]
    for classes, width in ((9, 12), (9, 8), (12, 12)):
        attributes = np.random.default_rng(0).random((classes, width))
        with pytest.raises(DataError, match=f"attributes holds {width} rows for 7 classes"):
            GZSLData.from_arrays(**given | {"attributes": attributes.T})
    names = list("abcdefghi")
    attributes = np.random.default_rng(0).random((9, 7))  # as wide as there are labels
    GZSLData.from_arrays(**given | {"attributes": attributes}, class_names=names)
    with pytest.raises(DataError, match="holds 7 vectors of length 9 for 9 classes; transpose"):
        GZSLData.from_arrays(**given | {"attributes": attributes.T}, class_names=names)
