"""The parts of hypotheses.py that its page describes in words."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from d3_plugin.data import GZSLData
from tests.toys import SMALL, ScriptHost, attach

SCRIPT = Path(__file__).parents[2] / "docs" / "tools" / "hypotheses.py"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("hypotheses", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["hypotheses"] = module  # its dataclasses look their module up
    sys.path.insert(0, str(SCRIPT.parent))  # as it is when the script runs
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(SCRIPT.parent))
    del sys.modules["hypotheses"]


def test_any_first_part_is_balanced(script: ModuleType) -> None:
    made = list(script.cells(("a", "b")))
    assert len(made) == len(set(made)) == 2 * 3 * 3 * 3 * 5
    assert Counter(cell.data for cell in made[:6]) == dict.fromkeys(script.DATA, 2)
    assert {cell.training for cell in made[:6]} == {"students"}


def test_the_semantic_student_starts_with_the_logits_of_the_teacher(
    script: ModuleType, toy_data: GZSLData
) -> None:
    d3 = attach(ScriptHost(toy_data))
    semantic = script.SemanticClassifier(toy_data, d3.distiller.teacher.classify)
    embedding = d3.distiller.teacher(toy_data.train_features)[1]
    expected = d3.distiller.teacher.classify(embedding)
    seen, unseen = toy_data.seen_classes, toy_data.unseen_classes
    torch.testing.assert_close(semantic(embedding)[:, seen], expected)
    assert (semantic.residual[unseen] == 0).all()


def test_relations_of_unseen_classes_are_those_the_attributes_predict(script: ModuleType) -> None:
    """Where the relation of seen classes is a function of the attributes' cosine."""
    attributes = torch.randn(12, 40, generator=torch.Generator().manual_seed(0))
    seen, unseen = torch.arange(10), torch.arange(10, 12)
    data = SimpleNamespace(attributes=attributes, seen_classes=seen, unseen_classes=unseen)
    unit = torch.nn.functional.normalize(attributes)
    relation = 0.3 + 0.5 * unit @ unit.T
    made = sys.modules["hypothesis_terms"].predicted(data, relation[:10, :10])
    torch.testing.assert_close(made, relation[10:, :10], atol=0.02, rtol=0)


@pytest.mark.filterwarnings("ignore:D³'s part of the generator's gradient")
def test_the_share_of_the_gradient_comes_close_to_its_target(
    script: ModuleType, toy_data: GZSLData
) -> None:
    host, extra = ScriptHost(toy_data), script.Extra(target=0.2)
    extra.d3 = attach(
        host, replace(SMALL, weight=script.FORMER.weight), mode="hook", plugins=[extra]
    )
    host.run(120)
    assert float(torch.tensor(extra.shares[-50:]).median()) == pytest.approx(0.2, abs=0.05)
