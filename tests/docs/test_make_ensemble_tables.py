"""docs/make_ensemble_tables.py on a small comparison: what it takes apart fits together again."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from d3_plugin import D3Settings, InputError
from d3_plugin.compare.store import RunStore
from tests.compare.test_rivals import outcome

SCRIPT = Path(__file__).parents[2] / "docs" / "make_ensemble_tables.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_ensemble_tables", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def save(out: Path, split: str, settings: D3Settings, number: int) -> None:
    """A run whose scores are those that ``evaluate`` makes of a host's and a student's."""
    host, student = outcome(number).evaluation.scores, outcome(number + 1).evaluation.scores
    made = outcome(number)
    log_p = [s - np.log(np.exp(s).sum(axis=2, keepdims=True)) for s in (host, student)]
    scores = log_p[0] + settings.ensemble_weight * log_p[1]
    scores[:, :, made.seen_classes] -= settings.seen_offset * np.log(len(made.seen_classes))
    evaluation = replace(made.evaluation, scores=scores.astype(np.float32), host_scores=host)
    run = replace(made.run, seed=number, split=split, variant="d3", d3=settings)
    RunStore(out).save(replace(made, run=run, evaluation=evaluation))


def test_tables(script: ModuleType, tmp_path: Path) -> None:
    settings = D3Settings(ensemble_weight=0.25, seen_offset=0.4)
    for number in (0, 1):
        save(tmp_path, "validation", settings, number)
    save(tmp_path, "test", settings, 7)
    ((name, cuts),) = script.read(tmp_path).items()
    assert len(cuts) == 2, "test runs are not read"
    stored = outcome(1).evaluation.scores
    expected = stored - np.log(np.exp(stored).sum(axis=2, keepdims=True))
    np.testing.assert_allclose(cuts[0].student, expected, atol=1e-4)
    plain, lowered = (cuts[0].metrics(0.5, offset) for offset in (0.0, 50.0))
    assert [m.ausuc for m in plain] == pytest.approx([m.ausuc for m in lowered])
    assert all(m.seen == 0 for m in lowered)
    lines = script.weight_table({"birds": {name: cuts}}).splitlines()
    mean = np.mean([m.ausuc for cut in cuts for m in cut.metrics(0.0, 0.0)])
    assert lines[2].split("|")[2].strip() == f"{100 * mean:.1f}"
    cut = cuts[0]
    odds = np.exp(cut.host[:, :, cut.seen]).sum(axis=2)  # of probabilities that sum to 1
    is_seen = np.isin(cut.labels, cut.seen)
    expected = [roc_auc_score(is_seen, draw) for draw in odds]
    assert cut.auroc(cut.host) == pytest.approx(expected)
    shown = script.auroc_table({"birds": {name: [cut]}}).splitlines()[2].split("|")[2:-1]
    assert shown[0].strip() == f"{100 * np.mean(expected):.1f}"
    shown = script.rule_table({"birds": {name: cuts}}).splitlines()[2].split("|")
    assert shown[2].strip() == f"{100 * mean:.1f}"
    gated, summed = script.gated(cut), cut.host + 0.5 * cut.student
    np.testing.assert_allclose(np.exp(gated).sum(axis=2), 1)
    assert cut.auroc(gated) == pytest.approx(cut.auroc(cut.host)), "the host's alone"
    for classes in (cut.seen, cut.unseen):
        one, two = (scores[:, :, classes] for scores in (gated, summed))
        np.testing.assert_allclose(one - one[:, :, :1], two - two[:, :, :1], atol=1e-12)
    offsets = script.offset_table({"birds": {name: cuts}}, (0.0, 9.0), script.constant)
    assert float(offsets.splitlines()[2].split("|")[3]) == 0


def test_nothing_to_read(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no validation runs"):
        script.read(tmp_path)
    save(tmp_path, "validation", D3Settings(ensemble_weight=0.0), 0)
    with pytest.raises(InputError, match="cannot be told"):
        script.read(tmp_path)
