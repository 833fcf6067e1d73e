"""Long trainings: neither objects nor memory grow."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import pytest

from tests.toys import SMALL, ScriptHost, attach


def resident() -> int:
    """Bytes of this process in memory."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in x)
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("mode", ["loss", "hook"])
@pytest.mark.parametrize("steps", [100, pytest.param(5000, marks=pytest.mark.slow)])
def test_nothing_grows(host: ScriptHost, mode: str, steps: int) -> None:
    d3 = attach(host, replace(SMALL, weight=1e-3), mode=mode)
    given = d3 if mode == "loss" else None
    host.run(60, given)
    host.outputs.clear()
    gc.collect()
    objects, memory = len(gc.get_objects()), resident()
    host.run(steps, given)
    host.outputs.clear()
    gc.collect()
    assert len(gc.get_objects()) - objects < 60
    assert resident() - memory < 20 * 2**20
