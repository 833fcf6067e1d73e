"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real split files and features; tests that use it skip where it is missing."""
    given = os.environ.get("D3_DATA")
    if given is not None:
        if not Path(given).is_dir():
            pytest.fail(f"D3_DATA={given!r} is not a folder")
        return Path(given)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not beside.is_dir():
        pytest.skip("no real data: set D3_DATA to its folder (or provide ../shared/data)")
    return beside
