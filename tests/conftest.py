"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from d3_plugin.data import GZSLData


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real split files and features; tests that use it skip where it is missing."""
    given = os.environ.get("D3_DATA")
    if given:
        if not Path(given).is_dir():
            pytest.fail(f"D3_DATA={given!r} is not a folder")
        return Path(given)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not beside.is_dir():
        pytest.skip("no real data: set D3_DATA to its folder (or provide ../shared/data)")
    return beside


@pytest.fixture(scope="session")
def toy_data() -> GZSLData:
    """A small GZSL problem in [0, 1]: seen classes 0, 2, 3, 5 and unseen classes 1, 4."""
    rng = np.random.default_rng(0)
    seen, unseen = np.array([0, 2, 3, 5]), np.array([1, 4])
    attributes = rng.random((6, 5))
    centres = attributes @ rng.random((5, 12)) / 3

    def rows(classes: np.ndarray, per_class: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = np.repeat(classes, per_class)
        features = centres[labels] + 0.03 * rng.standard_normal((len(labels), 12))
        return torch.from_numpy(features).float(), torch.from_numpy(labels)

    train_features, train_labels = rows(seen, 20)
    test_seen_features, test_seen_labels = rows(seen, 6)
    test_unseen_features, test_unseen_labels = rows(unseen, 10)
    return GZSLData(
        name="toy",
        train_features=train_features,
        train_labels=train_labels,
        test_seen_features=test_seen_features,
        test_seen_labels=test_seen_labels,
        test_unseen_features=test_unseen_features,
        test_unseen_labels=test_unseen_labels,
        attributes=torch.from_numpy(attributes).float(),
        seen_classes=torch.from_numpy(seen),
        unseen_classes=torch.from_numpy(unseen),
        class_names=tuple("abcdef"),
    ).scaled()
