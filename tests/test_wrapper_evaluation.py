"""``evaluate()`` and what it may not disturb."""

from __future__ import annotations

import pytest
import torch

from d3_plugin.data import GZSLData
from tests.script_host import ScriptHost, attach, weight_zero


def test_modules_behind_synthesis_are_kept(toy_data: GZSLData) -> None:
    """A decoder with batch norm, as a feedback path may have."""
    host = ScriptHost(toy_data)
    decoder = torch.nn.Sequential(torch.nn.BatchNorm1d(12), torch.nn.Dropout())
    modes = []

    def synthesize(class_ids: torch.Tensor, attributes: torch.Tensor) -> torch.Tensor:
        modes.append(decoder[1].training)
        return decoder(host.net_g(torch.randn_like(attributes), attributes))

    before = decoder[0].running_mean.clone()
    d3 = attach(host, synthesize=synthesize, modules=[decoder])
    d3.loss().backward()
    d3.evaluate()
    assert torch.equal(before, decoder[0].running_mean)
    assert modes == [True, True, False], "trial, step, evaluation"
    assert decoder.training


def test_classifier_of_a_script_may_train_with_torch(toy_data: GZSLData) -> None:
    host = ScriptHost(toy_data)

    def train(features: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.nn.Module:
        model = torch.nn.Linear(features.shape[1], classes)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(200):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(features), labels).backward()
            optimizer.step()
        return model

    d3 = attach(host, train_classifier=train, synthetic_per_class=20)
    assert d3.evaluate(final_classifier="host").metrics.seen > 0.5


def test_weight_zero_and_host_classifier_is_the_baseline(toy_data: GZSLData) -> None:
    alone = ScriptHost(toy_data)
    alone.run(3)
    beside = ScriptHost(toy_data)
    d3 = attach(beside, weight_zero())
    beside.run(3, d3)
    expected = attach(alone, weight_zero()).evaluate(final_classifier="host").scores
    assert (d3.evaluate(final_classifier="host").scores == expected).all()
    assert (d3.evaluate().host_scores == expected).all()
    assert d3.evaluate(final_classifier="student").host_scores is None


def test_evaluate_repeats_itself_and_has_sane_numbers(toy_data: GZSLData) -> None:
    host = ScriptHost(toy_data)
    d3 = attach(host, synthetic_per_class=20)
    host.run(40, d3)
    first, second = d3.evaluate(draws=2), d3.evaluate(draws=2)
    assert first.metrics == second.metrics
    assert first.scores.shape == (2, len(first.labels), 6)
    assert first.metrics.seen > 0.5, "chance over six classes is 0.17"
    assert first.prior.sum() == pytest.approx(1)
