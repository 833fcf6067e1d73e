"""Fixtures for all tests."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path

import pytest
import torch

from d3_plugin.data import GZSLData
from d3_plugin.evaluation import softmax
from d3_plugin.hooks import manager
from tests.experiments.tiny import blank_picture
from tests.toys import ScriptHost, toy_problem

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
"""Relative and absolute, of a loss computed in this dtype against loops in float64."""
HALVES = (torch.bfloat16, torch.float16)

# Several test processes share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
# A shell starts its background jobs with it ignored, and tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def installed_plugins() -> Iterator[None]:
    """Looked up once: every attach() would read the metadata of every installed distribution."""

    @cache
    def found(path: tuple[str, ...], group: str) -> EntryPoints:
        return entry_points(group=group)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manager, "entry_points", lambda group: found(tuple(sys.path), group))
        yield


@pytest.fixture(scope="session", params=["cpu", *["cuda"] * torch.cuda.is_available()])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device of this machine that the tests of numbers run on."""
    return torch.device(request.param)


@pytest.fixture(scope="session", params=TOLERANCE, ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """The dtypes that losses are computed in."""
    return request.param


@pytest.fixture(scope="session")
def tolerance(dtype: torch.dtype) -> float:
    """Of ``dtype``."""
    return TOLERANCE[dtype]


@pytest.fixture(scope="session", params=HALVES, ids=str)
def half(request: pytest.FixtureRequest) -> torch.dtype:
    """The dtypes that inputs may have and losses are not computed in."""
    return request.param


@pytest.fixture(scope="session", params=[*TOLERANCE, *HALVES], ids=str)
def any_dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """Every dtype of an input."""
    return request.param


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
    return toy_problem()


@pytest.fixture
def host(toy_data: GZSLData) -> ScriptHost:
    """A script on the CPU."""
    return ScriptHost(toy_data)


@pytest.fixture(scope="module", autouse=True)
def short_final_classifier(request: pytest.FixtureRequest) -> Iterator[None]:
    """The default classifier makes few steps in tests that do not ask how good it is."""
    path = request.path
    with pytest.MonkeyPatch.context() as patch:
        if (
            path.parent.name in ("attachment", "evaluation", "hosts")
            and path.stem != "test_softmax"
        ):
            patch.setattr(softmax, "STEPS", 0)
            patch.setattr(softmax, "EPOCHS", 10, raising=False)
        yield


@pytest.fixture(scope="module", autouse=True)
def blank_pictures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Comparisons draw nothing, except in tests/report: it takes most of a small one's time."""
    path = request.path
    with pytest.MonkeyPatch.context() as patch:
        if path.parent.name == "experiments" or path.name.startswith("test_cli"):
            from d3_plugin.report import page

            patch.setattr(page, "_saved", blank_picture)
        yield
