"""A comparison of four runs that takes seconds, for the tests that make it often."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ARGUMENTS = [
    *("compare", "--data", "digits-2", "--seeds", "1", "--draws", "1"),
    *("--host", "steps=3", "--host", "hidden=8", "--host", "synthetic_per_class=10"),
    *("--host", "classifier_epochs=1", "--set", "embedding_dim=8", "--set", "teacher_epochs=1"),
]


def results(out: Path) -> dict[str, Any]:
    """``results.json`` without what a clock says."""
    content: dict[str, Any] = json.loads((out / "results.json").read_text())
    for run in content["runs"]:
        assert run.pop("seconds") >= 0
    return content
