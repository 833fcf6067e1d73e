"""Fixtures of the teacher's tests."""

from __future__ import annotations

import pytest

from d3_plugin.distillation import teacher


@pytest.fixture(autouse=True)
def no_teacher_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test trains its own teachers."""
    monkeypatch.setattr(teacher, "_pretrained", {})
