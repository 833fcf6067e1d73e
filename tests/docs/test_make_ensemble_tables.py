"""make_ensemble_tables.py on a small comparison: what it takes apart fits together again."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from d3_plugin import D3Settings, InputError
from d3_plugin.evaluation import gzsl_metrics
from d3_plugin.experiments.store import RunStore
from tests.experiments.tiny import outcome

SCRIPT = Path(__file__).parents[2] / "docs" / "tools" / "make_ensemble_tables.py"


def log_probabilities(scores: np.ndarray) -> np.ndarray:
    return scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_ensemble_tables", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def save(out: Path, split: str, number: int, *, with_student: bool = True) -> None:
    """A run of +D³ with a host and a student of its own."""
    made = outcome(number)
    student = log_probabilities(outcome(number + 1).evaluation.scores)[0] if with_student else None
    evaluation = replace(made.evaluation, student_scores=student)
    run = replace(made.run, seed=number, split=split, variant="d3", d3=D3Settings())
    RunStore(out).save(replace(made, run=run, evaluation=evaluation))


def test_tables(script: ModuleType, tmp_path: Path) -> None:
    for number in (0, 1):
        save(tmp_path, "validation", number)
    save(tmp_path, "test", 7)
    ((name, cuts),) = script.read(tmp_path).items()
    assert len(cuts) == 2, "test runs are not read"
    expected = log_probabilities(outcome(1).evaluation.scores)[:1].repeat(2, axis=0)
    np.testing.assert_allclose(cuts[0].student, expected)
    plain, lowered = (cuts[0].metrics(0.5, offset) for offset in (0.0, 50.0))
    assert [m.ausuc for m in plain] == pytest.approx([m.ausuc for m in lowered])
    assert all(m.seen == 0 for m in lowered)
    lines = script.weight_table({"birds": {name: cuts}}).splitlines()
    mean = np.mean([m.ausuc for cut in cuts for m in cut.metrics(0.0, 0.0)])
    assert lines[2].split("|")[2].strip() == f"{100 * mean:.1f}"
    shown = script.rule_table({"birds": {name: cuts}}).splitlines()[2].split("|")[2:-1]
    rules = (
        lambda c: c.host,
        lambda c: c.student,
        lambda c: c.host + D3Settings().ensemble_weight * c.student,
        lambda c: np.log((np.exp(c.host) + np.exp(c.student)) / 2),
    )
    for shown_mean, rule in zip(shown, rules, strict=True):
        made = [
            gzsl_metrics(draw, c.labels, c.seen, c.unseen).ausuc for c in cuts for draw in rule(c)
        ]
        assert shown_mean.strip() == f"{100 * np.mean(made):.1f}"
    pairs = script.pair_table({"birds": {name: cuts}}).splitlines()[2].split("|")[2:-1]
    offset = 0.3 * np.log(len(cuts[0].seen))
    made = [m.harmonic for cut in cuts for m in cut.metrics(0.5, offset)]
    assert pairs[0].strip() == f"{100 * np.mean(made):.1f}"
    offsets = script.offset_table({"birds": {name: cuts}}, (0.0, 9.0), script.constant)
    assert float(offsets.splitlines()[2].split("|")[3]) == 0


def test_nothing_to_read(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no validation runs"):
        script.read(tmp_path)
    save(tmp_path, "validation", 0, with_student=False)
    with pytest.raises(InputError, match="no scores of host and student apart"):
        script.read(tmp_path)
