"""``ablate``: which terms a row has, and that it shares its runs with ``compare``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from d3_plugin import D3Settings
from d3_plugin.experiments import ablate, compare
from d3_plugin.experiments.comparison import ablation
from d3_plugin.report.rows import ABLATION
from d3_plugin.report.statistics import interval
from tests.experiments.tiny import SMALL


def test_terms_of_every_row() -> None:
    d3 = D3Settings(cls_weight=2.0, kl_weight=0.2, be_weight=0.3, od_weight=0.4, weight=0.7)
    variants = ablation(d3, D3Settings.released())
    weights = {
        name: (v.cls_weight, v.kl_weight, v.be_weight, v.od_weight, v.weight)
        for name, v in variants.items()
        if v is not None and name != "released"
    }
    assert weights == {
        "cls": (2.0, 0.0, 0.0, 0.0, 0.7),
        "cls-kl": (2.0, 0.2, 0.0, 0.0, 0.7),
        "cls-be": (2.0, 0.0, 0.3, 0.0, 0.7),
        "cls-id2sd": (2.0, 0.2, 0.3, 0.0, 0.7),
        "cls-od": (2.0, 0.0, 0.0, 0.4, 0.7),
        "d3": (2.0, 0.2, 0.3, 0.4, 0.7),
    }
    assert variants["baseline"] is None
    assert variants["released"] == D3Settings.released()
    assert variants.keys() == {row.variant for row in ABLATION}


def test_shares_its_runs_with_a_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare("fclswgan", "digits", tmp_path, seeds=1, **SMALL)
    comparison = json.loads((tmp_path / "results.json").read_text())
    capsys.readouterr()
    made = ablate("fclswgan", "digits", tmp_path, seeds=1, **SMALL)
    assert "+ L_cls: a student without distillation" in repr(made)
    summary = made.rows["fclswgan"]
    out = capsys.readouterr().out
    assert "8 runs, 2 of them finished earlier" in out
    assert list(summary) == [row.key for row in ABLATION]
    for row in ("baseline", "d3", "d3_host"):
        assert summary[row]["metrics"] == comparison["summary"]["fclswgan"][row]["metrics"]
    for row in summary.values():
        pairs = zip(
            row["metrics"]["ausuc"]["per_seed"],
            summary["baseline"]["metrics"]["ausuc"]["per_seed"],
            strict=True,
        )
        assert row["metrics"]["ausuc"]["difference"] == interval(a - b for a, b in pairs)
    content = json.loads((tmp_path / "ablation.json").read_text())
    assert content["settings"]["variants"]["cls-od"]["be_weight"] == 0
    assert len(content["runs"]) == 8
    assert "scores" not in content["runs"][0]
    page = (tmp_path / "ablation.html").read_text()
    assert "nothing is chosen" in page
    assert json.loads((tmp_path / "results.json").read_text()) == comparison, "overwritten"
