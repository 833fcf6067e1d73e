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
    return linear_problem([0, 2, 3, 5], [1, 4]).scaled()


def linear_problem(
    seen: list[int], unseen: list[int], *, per_class: int = 20, spread: float = 0.03
) -> GZSLData:
    """12 features, with class means linear in 5 attributes and normal rows around them."""
    rng = np.random.default_rng(0)
    attributes = rng.random((len(seen) + len(unseen), 5))
    centres = attributes @ rng.random((5, 12)) / 3

    def rows(classes: list[int], number: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = np.repeat(classes, number)
        features = centres[labels] + spread * rng.standard_normal((len(labels), 12))
        return torch.from_numpy(features).float(), torch.from_numpy(labels)

    return GZSLData(
        "toy",
        *rows(seen, per_class),
        *rows(seen, 6),
        *rows(unseen, 10),
        attributes=torch.from_numpy(attributes).float(),
        seen_classes=torch.tensor(seen),
        unseen_classes=torch.tensor(unseen),
        class_names=tuple("abcdefghijklmnopqrstuvwxyz"[: len(attributes)]),
    )
