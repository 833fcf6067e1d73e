"""Settings of runs that take a second, and made-up outcomes, for all tests of experiments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from d3_plugin import D3Settings
from d3_plugin.evaluation import gzsl_metrics
from d3_plugin.evaluation.result import Evaluation
from d3_plugin.experiments.run import Outcome
from d3_plugin.experiments.run_identity import Run

HOST = {"steps": 3, "hidden": 8, "synthetic_per_class": 10, "classifier_epochs": 1}
D3 = {"embedding_dim": 8, "teacher_epochs": 1}
SMALL: dict[str, Any] = {"draws": 1, "host": HOST, "d3": D3}
FLAGS = ["--draws", "1"]
for _flag, _changes in (("--host", HOST), ("--set", D3)):
    for _name, _value in _changes.items():
        FLAGS += [_flag, f"{_name}={_value}"]
ARGUMENTS = ["compare", "--data", "digits-2", "--seeds", "1", *FLAGS]
"""A comparison of four runs."""

SEEN, UNSEEN = np.array([0, 2, 3]), np.array([1, 4])

VARIANTS: dict[str, D3Settings | None] = {
    "baseline": None,
    "d3": D3Settings(final_classifier="host"),
}
"""What :func:`outcome` stands for: it has no scores of a student."""


def blank_picture(figure: object) -> dict[str, bytes]:
    """In place of ``page._saved``."""
    return {"svg": b"<svg ></svg>"}


def results(out: Path) -> dict[str, Any]:
    """``results.json`` without what a clock says."""
    content: dict[str, Any] = json.loads((out / "results.json").read_text())
    assert content.pop("finished")
    for run in content["runs"]:
        assert run.pop("seconds") >= 0
        assert run.pop("finished")
    return content


def outcome(seed: int, bias: float = 0.0, draws: int = 2) -> Outcome:
    """Noisy scores with ``bias`` on the seen classes."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(5), [30, 20, 10, 30, 25])
    scores = rng.normal(size=(draws, len(labels), 5))
    scores[:, np.arange(len(labels)), labels] += 1.5
    scores[:, :, SEEN] += bias
    metrics = gzsl_metrics(scores[0], labels, SEEN, UNSEEN)
    prior = np.array([0.1, 0.3, 0.1, 0.2, 0.3])
    run = Run("a", "d", "", seed, "baseline", "test", {}, None, draws, "cpu")
    scores = scores.astype(np.float32)
    evaluation = Evaluation(metrics, scores, labels, SEEN, UNSEEN, host_scores=scores, prior=prior)
    names = ["cat", "<dog> & co", "50% $off_", "Ätna", "fox"]
    return Outcome(
        run=run,
        evaluation=evaluation,
        data_name="d",
        class_names=names,
        history=[],
        d3_history=[],
        generator_start=0.0,
        generator_mean=0.0,
        projection=None,
        seconds=0.0,
        finished="2026-01-31T12:00:00Z",
    )
