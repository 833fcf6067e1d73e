"""Attributes that cannot work are pointed out, with the names of their classes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from d3_plugin.data import GZSLData, load_mat_folder, pseudo_unseen
from d3_plugin.data.host_data import as_gzsl_data
from d3_plugin.errors import D3Warning
from tests.data.mat_folders import make
from tests.data.test_dataset import as_arrays, as_loader

FIVE = 0.2 + np.random.default_rng(0).random((6, 4))


def changed(row: int, value: Any) -> np.ndarray:
    attributes = FIVE.copy()
    attributes[row] = value
    return attributes


CASES: dict[str, tuple[np.ndarray, str]] = {
    "one column": (
        FIVE[:, :1],
        "6 classes ('a', unseen 'b', 'c', 'd', unseen 'e', 'f') with equal attributes up to a",
    ),
    "zeros": (changed(4, 0.0), "1 classes (unseen 'e') with all-zero attributes"),
    "twins": (
        changed(1, FIVE[3]),
        "2 classes (unseen 'b', 'd') with equal attributes up to a factor",
    ),
    "a multiple": (
        changed(1, 3 * FIVE[3]),
        "2 classes (unseen 'b', 'd') with equal attributes up to",
    ),
    "a constant column": (
        np.concatenate([FIVE, np.full((6, 1), 0.3)], axis=1),
        "1 columns (4) that are constant",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_warning_by_every_way_in(toy_data: GZSLData, tmp_path: Path, case: str) -> None:
    attributes, message = CASES[case]
    given = as_arrays(toy_data)
    given["attributes"] = np.concatenate([attributes, -1 - attributes[:1]])
    with pytest.warns(D3Warning) as caught:
        data = GZSLData.from_arrays(**given)
    (only,) = caught
    assert message in str(only.message)
    assert only.filename == __file__
    data.save(tmp_path / "folder")
    ways: list[Callable[[], GZSLData]] = [
        lambda: load_mat_folder(tmp_path / "folder"),
        lambda: as_gzsl_data(as_loader(data)),
    ]
    for way in ways:
        with pytest.warns(D3Warning, match="cannot distinguish all classes") as caught:
            way()
    pseudo_unseen(data)  # is quiet: everything was said when the data were loaded


def test_no_warning_for_published_attributes(shared_data: Path) -> None:
    files = sorted((shared_data / "att_splits").glob("*.mat"))
    if not files:
        pytest.skip("no att_splits in the real data")
    for file in files:
        att = scipy.io.loadmat(file, variable_names=["att"])["att"].T
        classes = np.arange(len(att))
        half = len(att) // 2
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            GZSLData.from_arrays(
                np.random.default_rng(0).random((2 * len(att), 3)),
                np.tile(classes, 2),
                att,
                train=classes[:half],
                test_seen=len(att) + classes[:half],
                unseen_classes=classes[half:],
            )


def test_no_warning_for_a_good_folder(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_mat_folder(make(tmp_path))
