"""The f-CLSWGAN baseline, and D³ on it."""

from __future__ import annotations

import torch

import d3_plugin
from d3_adapters.fclswgan import FCLSWGANSettings, FCLSWGANTrainer
from d3_plugin import D3Settings
from d3_plugin.data import GZSLData, load

TINY = FCLSWGANSettings(steps=4, batch_size=16, hidden=16, synthetic_per_class=10)
SMALL = D3Settings(embedding_dim=8, teacher_epochs=2, weight=0.5)


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


def test_attribute_norm(toy_data: GZSLData) -> None:
    scaled = FCLSWGANTrainer(toy_data, FCLSWGANSettings(attribute_norm=5.0)).attributes
    torch.testing.assert_close(scaled.norm(dim=1), torch.full((6,), 5.0))
    as_given = FCLSWGANTrainer(toy_data, FCLSWGANSettings(attribute_norm=None)).attributes
    assert torch.equal(as_given, toy_data.attributes)


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
