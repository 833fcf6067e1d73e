"""The extra term follows its formula, and the generator is trained on it."""

import pytest
import torch
from cvae_gzsl import CVAESettings, CVAETrainer
from cvae_gzsl.anchors import anchor_loss, anchors

import d3_plugin
from d3_plugin import D3Settings
from d3_plugin.data import load

DATA = load("digits-1").scaled()
SMALL = D3Settings(embedding_dim=8, teacher_epochs=1, weight=1.0)


def test_anchors_are_those_of_a_naive_loop() -> None:
    found = anchors(DATA, 0.3)
    for c in range(DATA.num_classes):
        weighted, weights = torch.zeros(DATA.feature_dim), 0.0
        for s in DATA.seen_classes.tolist():
            cosine = torch.cosine_similarity(DATA.attributes[c], DATA.attributes[s], dim=0)
            weight = float((cosine / 0.3).exp())
            weighted += weight * DATA.train_features[DATA.train_labels == s].mean(dim=0)
            weights += weight
        torch.testing.assert_close(found[c], weighted / weights)


def test_loss_by_hand() -> None:
    features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]], requires_grad=True)
    targets = torch.tensor([[9.0, 9.0], [0.0, 1.0], [0.0, 1.0]])
    # Class 2 has the mean (2, 0), 2² + 1² from its target; class 1 has (0, 5), 4² from its own.
    loss = anchor_loss(features, torch.tensor([2, 2, 1]), targets)
    assert loss.item() == pytest.approx((5 + 16) / 4)
    loss.backward()
    assert features.grad is not None
    torch.testing.assert_close(features.grad[2], torch.tensor([0.0, 2.0]))


def test_term_is_among_those_of_d3() -> None:
    gradients = []
    for weight in (0.0, 10.0):
        trainer = CVAETrainer(DATA, CVAESettings(hidden=16, anchor_weight=weight))
        d3 = d3_plugin.attach(trainer, settings=SMALL, mode="loss")
        d3.loss().backward()
        gradients.append(trainer.generator[0].weight.grad)
        assert ("anchor" in d3.values) == (weight > 0)
    assert not torch.allclose(gradients[0], gradients[1])
