"""The f-CLSWGAN baseline, and D³ on it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

import d3_adapters.fclswgan
import d3_plugin
from d3_adapters.fclswgan import FCLSWGANSettings, FCLSWGANTrainer
from d3_adapters.softmax import train_softmax
from d3_plugin import D3Settings
from d3_plugin.data import GZSLData, load

TINY = FCLSWGANSettings(steps=4, batch_size=16, hidden=16, synthetic_per_class=10)
SMALL = D3Settings(embedding_dim=8, teacher_epochs=2, weight=0.5)


def test_trainer_imports_nothing_of_d3_but_data_types() -> None:
    folder = Path(d3_adapters.fclswgan.__file__).parent
    for name in ("trainer.py", "networks.py", "../softmax.py"):
        for node in ast.walk(ast.parse((folder / name).read_text())):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                modules = [getattr(node, "module", None), *(alias.name for alias in node.names)]
                ours = [m for m in modules if m and m.startswith("d3_plugin")]
                assert ours in ([], ["d3_plugin.data"])


def test_same_seed_same_run(toy_data: GZSLData) -> None:
    trainers = [FCLSWGANTrainer(toy_data, TINY, seed=3) for _ in range(2)]
    for trainer in trainers:
        torch.manual_seed(3)
        trainer.fit()
    for one, other in zip(*(t.generator.parameters() for t in trainers), strict=True):
        assert torch.equal(one, other)


def test_weight_zero_leaves_the_baseline_bit_identical(toy_data: GZSLData) -> None:
    alone = FCLSWGANTrainer(toy_data, TINY, seed=1)
    alone.fit()
    after = torch.get_rng_state()
    beside = FCLSWGANTrainer(toy_data, TINY, seed=1)
    settings = D3Settings(embedding_dim=8, teacher_epochs=2, weight=0.0)
    d3 = d3_plugin.attach(beside, data=toy_data, settings=settings)
    beside.fit()
    assert d3.steps == TINY.steps
    assert torch.equal(after, torch.get_rng_state())
    assert alone.history == beside.history
    for net in ("generator", "critic"):
        for one, other in zip(
            getattr(alone, net).parameters(), getattr(beside, net).parameters(), strict=True
        ):
            assert torch.equal(one, other)


def test_d3_reaches_the_generator_once_per_generator_step(toy_data: GZSLData) -> None:
    trainer = FCLSWGANTrainer(toy_data, TINY, seed=1)
    d3 = d3_plugin.attach(trainer, settings=SMALL)
    trainer.fit()
    baseline = FCLSWGANTrainer(toy_data, TINY, seed=1)
    baseline.fit()
    assert d3.steps == TINY.steps, "not in the critic's steps"
    for one, other in zip(
        trainer.generator.parameters(), baseline.generator.parameters(), strict=True
    ):
        assert not torch.equal(one, other)


def test_flags_are_back_after_training(toy_data: GZSLData) -> None:
    trainer = FCLSWGANTrainer(toy_data, TINY)
    trainer.fit()
    assert all(p.requires_grad for p in trainer.critic.parameters())


def test_gradient_penalty_is_zero_for_a_unit_slope(toy_data: GZSLData) -> None:
    """A critic with slope 1 in the features pays nothing, one with slope 3 pays (3 - 1)²."""
    trainer = FCLSWGANTrainer(toy_data, TINY)
    slope = torch.zeros(toy_data.feature_dim)
    slope[0] = 3.0
    trainer.critic = lambda features, attributes: features @ slope[:, None]
    real, attributes = toy_data.train_features[:8], toy_data.attributes[:6].repeat(2, 1)[:8]
    assert trainer._penalty(real, real + 1, attributes).item() == pytest.approx(4.0)
    slope[0] = 1.0
    assert trainer._penalty(real, real + 1, attributes).item() == pytest.approx(0.0)


def test_attribute_norm(toy_data: GZSLData) -> None:
    scaled = FCLSWGANTrainer(toy_data, FCLSWGANSettings(attribute_norm=5.0)).attributes
    torch.testing.assert_close(scaled.norm(dim=1), torch.full((6,), 5.0))
    as_given = FCLSWGANTrainer(toy_data, FCLSWGANSettings(attribute_norm=None)).attributes
    assert torch.equal(as_given, toy_data.attributes)


def test_softmax_learns_separable_classes() -> None:
    torch.manual_seed(0)
    features = torch.eye(3).repeat(50, 1)
    labels = torch.arange(3).repeat(50)
    classifier = train_softmax(features, labels, 4, epochs=60, batch_size=10)
    assert torch.equal(classifier(features).argmax(dim=1), labels)
    assert not classifier.weight.requires_grad


def test_baseline_on_digits_is_no_straw_man() -> None:
    """Chance is 1/10 for U and S, and 1/4 for ZSL; a linear attribute classifier gets ZSL 0.82."""
    trainer = FCLSWGANTrainer(
        load("digits-1").scaled(), FCLSWGANSettings(steps=300, hidden=512), seed=0
    )
    trainer.fit()
    metrics = d3_plugin.evaluate(trainer).metrics
    assert metrics.seen > 0.7
    assert metrics.zsl > 0.55
    assert metrics.ausuc > 0.4
