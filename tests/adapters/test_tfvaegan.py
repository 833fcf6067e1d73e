"""The TF-VAEGAN baseline, and D³ on it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import d3_plugin
from d3_adapters.tfvaegan import TFVAEGANSettings, TFVAEGANTrainer, losses
from d3_adapters.tfvaegan import trainer as trainer_module
from d3_plugin import D3Settings
from d3_plugin.data import GZSLData, load

# 80 training rows: two steps a pass, so steps 3 and 4 are with feedback.
TINY = TFVAEGANSettings(steps=4, batch_size=40, hidden=16, synthetic_per_class=10)
SMALL = D3Settings(embedding_dim=8, teacher_epochs=2, weight=0.5)
NETS = ("encoder", "generator", "critic", "decoder", "feedback")


def _parameters(trainer: TFVAEGANTrainer, *nets: str) -> Iterator[nn.Parameter]:
    for net in nets or NETS:
        yield from getattr(trainer, net).parameters()


def _copy(trainer: TFVAEGANTrainer, *nets: str) -> list[Tensor]:
    return [p.detach().clone() for p in _parameters(trainer, *nets)]


def _same(ones: list[Tensor], others: list[Tensor]) -> list[bool]:
    return [torch.equal(one, other) for one, other in zip(ones, others, strict=True)]


def _calls(net: nn.Module) -> list[int]:
    calls: list[int] = []
    net.register_forward_hook(lambda *_: calls.append(1))
    return calls


def _lively(data: GZSLData, settings: TFVAEGANSettings = TINY, seed: int = 0) -> TFVAEGANTrainer:
    """With a feedback that matters: at the start of training it is near zero."""
    trainer = TFVAEGANTrainer(data, settings, seed=seed)
    for parameter in _parameters(trainer, "decoder", "feedback", "encoder"):
        nn.init.normal_(parameter, std=0.5)
    return trainer


def test_d3_reaches_all_of_the_generator_and_nothing_else(toy_data: GZSLData) -> None:
    trainer = TFVAEGANTrainer(toy_data, TINY, seed=1)
    seen: dict[str, list[Tensor]] = {}

    def note(when: str) -> None:
        seen[when] = [p.grad.clone() for p in trainer.generator.parameters()]

    trainer.generator_optimizer.register_step_pre_hook(lambda *_: note("before"))
    d3 = d3_plugin.attach(trainer, settings=SMALL)
    trainer.generator_optimizer.register_step_pre_hook(lambda *_: note("after"))
    features, labels = trainer.batch(toy_data.train_features)
    for step, with_feedback in enumerate((False, True), start=1):
        trainer.generator_optimizer.zero_grad()
        trainer.decoder_step(features, labels)
        trainer.critic_step(features, labels, with_feedback)
        assert d3.steps == step - 1, "not in the critic's steps"
        assert all(p.grad is None for p in trainer.generator.parameters())
        trainer.generator_step(features, labels, with_feedback)
        assert d3.steps == step
        assert not any(_same(seen["before"], seen["after"]))


def test_gradient_of_synthesis_reaches_the_generator_only(toy_data: GZSLData) -> None:
    trainer = _lively(toy_data)
    trainer.synthesize(toy_data.unseen_classes).square().sum().backward()
    assert all((p.grad != 0).any() for p in _parameters(trainer, "generator"))
    assert all(p.grad is None for p in _parameters(trainer, "decoder", "feedback", "encoder"))


def test_synthesis_goes_through_the_feedback(toy_data: GZSLData) -> None:
    trainer = _lively(toy_data)
    classes = toy_data.unseen_classes.repeat(4)

    def synthesize(seed: int = 5) -> Tensor:
        torch.manual_seed(seed)
        return trainer.synthesize(classes).detach()

    features = synthesize()
    assert features.shape == (8, toy_data.feature_dim)
    assert torch.equal(features, synthesize())
    assert not torch.equal(features, synthesize(seed=6))
    torch.manual_seed(5)
    noise, attributes = trainer.noise(8), trainer.attributes[classes]
    plain = trainer.generator(noise, attributes).detach()
    feedback = trainer.feedback(trainer.decoder(plain)[1])
    expected = trainer.generator(
        noise, attributes, trainer.settings.feedback_synthesis * feedback
    ).detach()
    torch.testing.assert_close(features, expected)
    assert not torch.allclose(features, plain)
    for net in ("feedback", "decoder"):
        before = synthesize()
        nn.init.normal_(next(getattr(trainer, net).parameters()))
        assert not torch.equal(before, synthesize()), net
    trainer.settings = replace(TINY, feedback_synthesis=0.0)
    assert torch.equal(plain, synthesize())


def test_classifier_gets_the_transformed_features(
    toy_data: GZSLData, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = TFVAEGANTrainer(toy_data, TINY)
    rows = toy_data.train_features
    transformed = trainer.transform(rows)
    assert transformed.shape == (80, toy_data.feature_dim + 5 + TINY.hidden)
    assert torch.equal(transformed, trainer.transform(rows))
    torch.testing.assert_close(transformed[:, 12:17].norm(dim=1), torch.ones(80))
    given: list[Tensor] = []
    train = trainer.train_classifier

    def spy(features: Tensor, labels: Tensor) -> nn.Linear:
        given.append(features)
        return train(features, labels)

    monkeypatch.setattr(trainer, "train_classifier", spy)
    d3_plugin.evaluate(trainer)
    assert given[0].shape == (80 + 20, transformed.shape[1])
    assert torch.equal(given[0][:80], transformed.detach())


def test_evaluate_leaves_modes_and_flags(toy_data: GZSLData) -> None:
    trainer = TFVAEGANTrainer(toy_data, TINY)
    trainer.fit()
    assert all(p.requires_grad for p in _parameters(trainer)), "after training"
    trainer.decoder.eval()
    trainer.feedback.requires_grad_(False)
    modes: list[bool] = []
    trainer.feedback.register_forward_hook(lambda net, *_: modes.append(net.training))
    d3_plugin.evaluate(trainer)
    assert modes == [False, False, True], "for the classifier in eval mode; the proof in both"
    assert trainer.generator.training
    assert trainer.feedback.training
    assert not trainer.decoder.training
    assert not any(p.requires_grad for p in _parameters(trainer, "feedback"))
    assert all(p.requires_grad for p in _parameters(trainer, "generator", "decoder"))


def test_feedback_from_the_second_pass_on(
    toy_data: GZSLData, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = TFVAEGANTrainer(toy_data, replace(TINY, steps=8, loops=3))
    schedule, changed = [], []
    step = trainer.generator_step

    def spy(features: Tensor, labels: Tensor, with_feedback: bool) -> tuple[Tensor, ...]:
        before = _copy(trainer, "feedback")
        terms = step(features, labels, with_feedback)
        schedule.append(with_feedback)
        changed.append(not all(_same(before, _copy(trainer, "feedback"))))
        return terms

    monkeypatch.setattr(trainer, "generator_step", spy)
    trainer.fit()
    assert schedule == changed == [False] * 2 + [True] * 4 + [False] * 2


@pytest.mark.parametrize("frozen", [False, True])
def test_freeze_decoder(toy_data: GZSLData, frozen: bool) -> None:
    trainer = TFVAEGANTrainer(toy_data, replace(TINY, freeze_decoder=frozen))
    features, labels = trainer.batch(toy_data.train_features)
    trainer.decoder_step(features, labels)
    before = _copy(trainer, "decoder")
    trainer.generator_step(features, labels, True)
    assert _same(before, _copy(trainer, "decoder")) == [frozen] * 4
    trainer.decoder_step(features, labels)
    assert not any(_same(before, _copy(trainer, "decoder")))


@pytest.mark.parametrize("encoded", [True, False])
def test_encoded_noise(toy_data: GZSLData, encoded: bool) -> None:
    """Encoded: the critic's fakes come through the encoder, and one pass serves both losses."""
    trainer = TFVAEGANTrainer(toy_data, replace(TINY, encoded_noise=encoded))
    features, labels = trainer.batch(toy_data.train_features)
    encodings, passes = _calls(trainer.encoder), _calls(trainer.generator)
    trainer.critic_step(features, labels, False)
    assert (len(encodings), len(passes)) == (encoded, 1)
    trainer.generator_step(features, labels, False)
    assert (len(encodings), len(passes)) == (encoded + 1, 2 if encoded else 3)


def test_kl_is_that_of_a_naive_loop() -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.randn(2, 7, 3, dtype=torch.float64)
    total = 0.0
    for m, v in zip(mean.flatten().tolist(), log_variance.exp().flatten().tolist(), strict=True):
        total += math.log(1 / math.sqrt(v)) + (v + m * m) / 2 - 0.5
    assert losses.kl_to_standard_normal(mean, log_variance).item() == pytest.approx(total / 7)


def test_vae_loss_sums_over_features() -> None:
    half, zero = torch.full((3, 4), 0.5), torch.zeros(3, 2)
    features = torch.rand(3, 4).round() * (1 + 1e-6)
    assert losses.vae_loss(half, features, zero, zero).item() == pytest.approx(4 * math.log(2))


def test_attribute_loss_is_that_of_a_naive_loop() -> None:
    torch.manual_seed(0)
    decoded, attributes = torch.randn(2, 6, 4, dtype=torch.float64)
    total = 0.0
    for one, other in zip(decoded.tolist(), attributes.tolist(), strict=True):
        errors = [abs(a - b) for a, b in zip(one, other, strict=True)]
        total += sum(e**3 for e in errors) / math.sqrt(sum(e**2 for e in errors))
    assert losses.attribute_loss(decoded, attributes).item() == pytest.approx(total / 6)
    perfect = attributes.clone().requires_grad_(True)
    losses.attribute_loss(perfect, attributes).backward()
    assert torch.equal(perfect.grad, torch.zeros_like(perfect))


@pytest.mark.parametrize(("penalty", "factor"), [(2.0, 1.1), (1.02, 1.0), (0.5, 1 / 1.1)])
def test_penalty_weight_follows_the_penalty(
    toy_data: GZSLData, monkeypatch: pytest.MonkeyPatch, penalty: float, factor: float
) -> None:
    monkeypatch.setattr(
        trainer_module, "gradient_penalty", lambda critic, real, *_: real.new_tensor(penalty)
    )
    trainer = TFVAEGANTrainer(toy_data, TINY)
    trainer.fit()
    assert trainer.penalty_weight.item() == pytest.approx(10 * factor**TINY.steps)


def test_attribute_norm(toy_data: GZSLData) -> None:
    trainer = TFVAEGANTrainer(toy_data, replace(TINY, attribute_norm=3.0))
    torch.testing.assert_close(trainer.attributes.norm(dim=1), torch.full((6,), 3.0))
    torch.testing.assert_close(trainer.unit_attributes.norm(dim=1), torch.ones(6))


def test_features_outside_the_unit_interval_are_refused(toy_data: GZSLData) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\], got 0 to 2: give it data.scaled"):
        TFVAEGANTrainer(replace(toy_data, train_features=2 * toy_data.train_features), TINY)


def test_baseline_on_digits_is_no_straw_man() -> None:
    """Chance is 1/10 for U and S, and 1/4 for ZSL; a linear attribute classifier gets ZSL 0.82."""
    settings = TFVAEGANSettings(steps=150, hidden=128, lr=1e-3, classifier_epochs=10)
    trainer = TFVAEGANTrainer(load("digits-1").scaled(), settings, seed=0)
    trainer.fit()
    metrics = d3_plugin.evaluate(trainer).metrics
    assert metrics.seen > 0.6
    assert metrics.zsl > 0.5
