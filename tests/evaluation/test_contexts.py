"""What surrounds a call changes no number: autocast, modes, default dtypes and devices, threads."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import d3_plugin
from d3_plugin import D3
from d3_plugin.data import GZSLData
from d3_plugin.evaluation import Classifier
from tests.surroundings import together
from tests.toys import ScriptHost, attach

pytestmark = pytest.mark.filterwarnings("ignore:.*far below", "ignore:Anomaly Detection")


# Several that do not hide each other at once: each of these makes several classifiers.
CONTEXTS = [
    ("autocast", "no_grad"),
    ("inference mode", "deterministic"),
    ("float64", "default device"),
    ("bfloat16", "device context"),
    ("anomaly mode", "saved tensors", "NumPy errors", "Philox"),
]


@pytest.fixture(scope="module")
def d3(toy_data: GZSLData) -> D3:
    host = ScriptHost(toy_data)
    made = attach(host)
    host.run(3, made)
    return made


@pytest.fixture(scope="module")
def path(d3: D3, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("classifier") / "c"
    d3.classifier().save(made)
    return made


def numbers(d3: D3, path: Path) -> dict[str, Any]:
    """Everything that is computed in this room."""
    data = d3.host.data
    rows = torch.cat([data.test_seen_features, data.test_unseen_features])
    parts = {"generator": d3.host.generator, "data": data}
    both = d3.evaluate(draws=2)
    made, loaded = d3.classifier(), Classifier.load(path)
    made.save(path.with_name("again"))
    return {
        "both": both.scores,
        "metrics": both.metrics,
        "teacher": both.teacher_score,
        "host": d3.evaluate(final_classifier="host").scores,
        "student": d3.evaluate(final_classifier="student").scores,
        "chosen": d3.calibrate(),
        "baseline": d3_plugin.evaluate(**parts).scores,
        "its classifier": d3_plugin.classifier(**parts).scores(rows, scaled=True).numpy(),
        "made": made.scores(rows, scaled=True).numpy(),
        "loaded": loaded.predict_proba(rows.numpy(), scaled=True),
        "saved": path.with_name("again").read_bytes(),
    }


@pytest.fixture(scope="module")
def expected(d3: D3, path: Path) -> dict[str, Any]:
    return numbers(d3, path)


@pytest.mark.parametrize("names", CONTEXTS, ids=", ".join)
def test_in_a_context(d3: D3, path: Path, expected: dict[str, Any], names: tuple[str, ...]) -> None:
    with together(*names):
        found = numbers(d3, path)
    np.testing.assert_equal(found, expected)


def test_in_a_thread(d3: D3, path: Path, expected: dict[str, Any]) -> None:
    found: dict[str, Any] = {}
    thread = threading.Thread(target=lambda: found.update(numbers(d3, path)))
    thread.start()
    thread.join()
    np.testing.assert_equal(found, expected)


def test_rows_made_in_inference_mode(d3: D3, path: Path) -> None:
    with torch.inference_mode():
        rows = d3.host.data.test_unseen_features.clone()
    expected = Classifier.load(path).scores(rows.numpy(), scaled=True)
    np.testing.assert_array_equal(Classifier.load(path).scores(rows, scaled=True), expected)
