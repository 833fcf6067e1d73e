"""Masks of 0 and 1 of any dtype, and rows of unseen classes in sets they must not be in."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d3_plugin.data import GZSLData, load_mat_folder
from d3_plugin.errors import D3Warning, DataError
from tests.data.mat_folders import BOTH, SETS, Variables, index, make
from tests.data.test_dataset import as_arrays, same

ROWS = np.arange(1, 31)
DTYPES = [bool, np.uint8, np.float64]


def mask(rows: Any, dtype: Any = np.uint8) -> np.ndarray:
    return np.isin(ROWS, rows)[:, None].astype(dtype)


@BOTH
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("keys", [SETS, SETS[:1], SETS[2:]])
def test_masks_in_a_folder(tmp_path: Path, version: str, dtype: Any, keys: tuple[str, ...]) -> None:
    (tmp_path / "sorted").mkdir()

    def in_order(res: Variables, att: Variables) -> None:
        att.update({key: np.sort(att[key], axis=0) for key in keys})

    def masks(res: Variables, att: Variables) -> None:
        att.update({key: mask(att[key], dtype) for key in keys})

    expected = load_mat_folder(make(tmp_path / "sorted", in_order))
    assert same(load_mat_folder(make(tmp_path, masks, version)), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["row", "column", "list"])
def test_masks_of_arrays(toy_data: GZSLData, dtype: Any, form: str) -> None:
    given = as_arrays(toy_data)
    for part in ("train", "test_seen", "test_unseen"):
        column = np.isin(np.arange(126), given[part])[:, None].astype(dtype)
        forms = {"row": column.T, "column": column, "list": column.ravel().tolist()}
        given[part] = forms[form]
    assert same(GZSLData.from_arrays(**given), toy_data)


def test_a_mask_that_fits_the_features_is_not_to_blame(toy_data: GZSLData) -> None:
    """One fault, labels of another length, is one problem."""
    given = as_arrays(toy_data)
    for part in ("train", "test_seen", "test_unseen"):
        given[part] = np.isin(np.arange(126), given[part])
    given["labels"] = given["labels"][:-1]
    with pytest.raises(DataError, match=r"mine': features holds 126 samples, labels 125 values$"):
        GZSLData.from_arrays(**given, name="mine")


@pytest.mark.parametrize("change", [1.0, 0])
def test_a_mask_of_another_length_is_one_problem(toy_data: GZSLData, change: float) -> None:
    given = as_arrays(toy_data)
    given["train"] = np.isin(np.arange(99), given["train"]).astype(type(change))
    with pytest.raises(DataError, match=r": train is a mask of 99 rows; there are 126$"):
        GZSLData.from_arrays(**given)


@BOTH
@pytest.mark.parametrize("form", [index, lambda *rows: mask(rows), lambda *rows: mask(rows, float)])
def test_leaks_in_any_form(tmp_path: Path, version: str, form: Any) -> None:
    """Row 10 is of the unseen class 5 though in no test set."""

    def change(res: Variables, att: Variables) -> None:
        att["train_loc"], att["val_loc"] = form(2, 27, 17, 1), form(7, 9, 10)

    folder = make(tmp_path, change, version)
    with pytest.warns(D3Warning) as caught:
        load_mat_folder(folder)
    (only,) = caught
    leaks = [
        "train_loc contains 2 of the 4 samples of test_seen_loc",
        "train_loc contains 1 of the 6 samples of test_unseen_loc",
        "val_loc contains 1 other samples of unseen classes",
    ]
    assert ", ".join(leaks) + "." in str(only.message)
    with pytest.raises(DataError) as refused:
        load_mat_folder(folder, validation=True)
    assert all(f"{leak}; these cannot be used" in str(refused.value) for leak in leaks)


def split(labels: np.ndarray) -> dict[str, Any]:
    """Classes 0 and 1 seen, 2 and 3 unseen, and 20 of the 40 rows of class 2 in training."""
    number = np.arange(len(labels))
    test, leak = number % 5 == 0, (labels == 2) & (number % 40 < 20)
    return {
        "train": (labels < 2) & ~test | leak,
        "test_seen": (labels < 2) & test,
        "test_unseen": (labels >= 2) & ~leak,
    }


def test_an_unseen_class_in_training_is_not_called_rare(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(4), 40)
    random = np.random.default_rng(0)
    features, attributes = random.random((160, 6)), random.random((4, 5))
    message = r"1 classes \(%s\) both seen and unseen"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=message % 2):
            GZSLData.from_arrays(features, labels, attributes, **split(labels))

        def change(res: Variables, att: Variables) -> None:
            rows = {key: np.flatnonzero(m) + 1 for key, m in split(labels).items()}
            res.update(features=features.T, labels=labels[:, None] + 1)
            att.update({key: rows[part] for key, part in zip(SETS, rows, strict=True)})
            att.update(att=attributes.T)
            del att["allclasses_names"]

        with pytest.raises(DataError, match=message % 3):
            load_mat_folder(make(tmp_path, change))


def test_an_unseen_class_in_training_for_validation(tmp_path: Path) -> None:
    """A class of val_loc with one row in train_loc, which cannot be held out."""

    def change(res: Variables, att: Variables) -> None:
        att["trainval_loc"] = index(2, 7, 12, 4, 9, 14, 3, 8, 13, 18)
        att["test_seen_loc"] = index(17, 19, 23)
        att["train_loc"], att["val_loc"] = index(2, 7, 12, 4, 9, 14, 3), index(8, 13, 18)

    with pytest.raises(DataError, match=r"train_loc and val_loc: 1 classes \(3\) both seen and un"):
        load_mat_folder(make(tmp_path, change), validation=True)
