"""Which networks get D³'s gradient, in which steps: the generator's own steps, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import d3_plugin
from d3_adapters.diffusion import DiffusionSettings, DiffusionTrainer
from d3_adapters.fclswgan import FCLSWGANSettings, FCLSWGANTrainer
from d3_adapters.tfvaegan import TFVAEGANSettings, TFVAEGANTrainer
from d3_plugin import D3Settings
from d3_plugin.data import GZSLData
from d3_plugin.evaluation.softmax import train_softmax

D3_SMALL = D3Settings(embedding_dim=16, teacher_epochs=2, weight=0.5)
SIZE: dict[str, Any] = {"steps": 4, "batch_size": 40, "hidden": 16, "synthetic_per_class": 10}


def fclswgan(data: GZSLData) -> FCLSWGANTrainer:
    trainer = FCLSWGANTrainer(data, FCLSWGANSettings(**SIZE))
    positions = torch.searchsorted(data.seen_classes, data.train_labels)
    trainer.seen_classifier = train_softmax(data.train_features, positions, 4, epochs=1)
    trainer.seen_classifier.zero_grad()  # what its own training left
    return trainer


def tfvaegan(data: GZSLData) -> TFVAEGANTrainer:
    """With a feedback that matters: at the start of training it is near zero."""
    trainer = TFVAEGANTrainer(data, TFVAEGANSettings(**SIZE))
    for net in (trainer.decoder, trainer.feedback, trainer.encoder):
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.5)
    return trainer


def diffusion(data: GZSLData) -> DiffusionTrainer:
    return DiffusionTrainer(data, DiffusionSettings(**SIZE))


HOSTS: list[Callable[[GZSLData], Any]] = [fclswgan, tfvaegan, diffusion]

# One generator step of each host, and the steps of its other networks, on features and labels.
Step = Callable[[Any, Tensor, Tensor], object]
GENERATOR_STEPS: list[tuple[Callable[[GZSLData], Any], Step]] = [
    (fclswgan, lambda t, x, y: t.generator_step(y)),
    (tfvaegan, lambda t, x, y: t.generator_step(x, y, False)),
    (tfvaegan, lambda t, x, y: t.generator_step(x, y, True)),
    (diffusion, lambda t, x, y: t.denoising_step(t.residuals[: len(y)], y)),
]
OTHER_STEPS: list[tuple[Callable[[GZSLData], Any], Step]] = [
    (fclswgan, lambda t, x, y: t.critic_step(x, y)),
    (tfvaegan, lambda t, x, y: t.critic_step(x, y, True)),
    (tfvaegan, lambda t, x, y: t.decoder_step(x, y)),
    (diffusion, lambda t, x, y: t.update_ema(1)),
]


def networks(trainer: Any) -> dict[str, nn.Module]:
    return {name: net for name, net in vars(trainer).items() if isinstance(net, nn.Module)}


def gradients(trainer: Any) -> dict[str, Tensor | None]:
    return {
        f"{name}.{key}": None if p.grad is None else p.grad.clone()
        for name, net in networks(trainer).items()
        for key, p in net.named_parameters()
    }


def stepped(
    build: Callable[[GZSLData], Any], step: Step, data: GZSLData, weight: float | None
) -> tuple[dict[str, Tensor | None], dict[str, Tensor], int]:
    """Gradients and parameters after one step, and D³'s steps; without D³ for weight None."""
    trainer = build(data)
    steps = 0
    if weight is not None:
        d3 = d3_plugin.attach(trainer, settings=replace(D3_SMALL, weight=weight))
    torch.manual_seed(5)
    step(trainer, data.train_features[::2], data.train_labels[::2].clone())
    if weight is not None:
        steps = d3.steps
        assert all(p.grad is None for p in d3.distiller.parameters()), "teacher and student"
    values = {
        f"{name}.{key}": value
        for name, net in networks(trainer).items()
        for key, value in net.state_dict().items()
    }
    return gradients(trainer), values, steps


def differing(ones: dict[str, Any], others: dict[str, Any]) -> set[str]:
    def same(one: Tensor | None, other: Tensor | None) -> bool:
        if one is None or other is None:
            return one is other
        return torch.equal(one, other)

    return {name for name in ones if not same(ones[name], others[name])}


@pytest.mark.parametrize("build", HOSTS)
def test_loss_reaches_all_of_the_generator_and_no_other_network(
    toy_data: GZSLData, build: Callable[[GZSLData], Any]
) -> None:
    trainer = build(toy_data)
    d3 = d3_plugin.attach(trainer, settings=D3_SMALL, mode="loss")
    d3.loss().backward()
    for name, gradient in gradients(trainer).items():
        if name.startswith("generator."):
            assert gradient is not None, name
            assert gradient.any(), name
        else:
            assert gradient is None, name
    assert all(p.grad is None for p in d3.distiller.parameters()), "teacher and student"
    assert not any(p.requires_grad for p in d3.distiller.teacher.parameters())


@pytest.mark.parametrize(("build", "step"), GENERATOR_STEPS)
def test_generator_step_gets_it_in_every_parameter_of_the_generator_only(
    toy_data: GZSLData, build: Callable[[GZSLData], Any], step: Step
) -> None:
    alone, alone_values, _ = stepped(build, step, toy_data, None)
    beside, beside_values, steps = stepped(build, step, toy_data, 0.5)
    assert steps == 1
    generator = {name for name in alone if name.startswith("generator.")}
    assert differing(alone, beside) == generator
    # Adam's first step is the learning rate times a sign, which D³ need not change everywhere.
    assert generator >= differing(alone_values, beside_values) != set()


@pytest.mark.parametrize(("build", "step"), OTHER_STEPS)
def test_steps_of_other_networks_get_none(
    toy_data: GZSLData, build: Callable[[GZSLData], Any], step: Step
) -> None:
    alone, alone_values, _ = stepped(build, step, toy_data, None)
    beside, beside_values, steps = stepped(build, step, toy_data, 0.5)
    assert steps == 0
    assert differing(alone, beside) == set()
    assert differing(alone_values, beside_values) == set()


@pytest.mark.parametrize(("build", "step"), GENERATOR_STEPS)
def test_generator_step_at_weight_zero_gets_none(
    toy_data: GZSLData, build: Callable[[GZSLData], Any], step: Step
) -> None:
    alone, _, _ = stepped(build, step, toy_data, None)
    beside, _, steps = stepped(build, step, toy_data, 0.0)
    assert steps == 1
    assert differing(alone, beside) == set()


@pytest.mark.filterwarnings("ignore:D³ has made no step")
@pytest.mark.parametrize("build", HOSTS)
def test_synthesis_for_the_final_classifier_leaves_none(
    toy_data: GZSLData, build: Callable[[GZSLData], Any]
) -> None:
    """Also a diffusion's multi-step sampling, of whose many steps none may keep a graph."""
    trainer = build(toy_data)
    d3 = d3_plugin.attach(trainer, settings=D3_SMALL)
    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    train = trainer.train_classifier
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        trainer.train_classifier = lambda features, labels: train(
            _without_graph(features, saved), labels
        )
        d3.evaluate()
    assert all(gradient is None for gradient in gradients(trainer).values())


def _without_graph(features: Tensor, saved: list[Tensor]) -> Tensor:
    """By now rows are synthesised and transformed, and nothing was kept for a backward pass."""
    assert saved == []
    assert not features.requires_grad
    return features


def test_multi_step_sampling_has_no_gradient_though_it_is_on(toy_data: GZSLData) -> None:
    trainer = diffusion(toy_data)
    rows = trainer.synthesize(toy_data.unseen_classes)
    assert torch.is_grad_enabled()
    assert not rows.requires_grad
    one_step = trainer.synthesize(toy_data.unseen_classes, differentiable=True)
    one_step.sum().backward()
    assert all(p.grad is None for p in trainer.ema_generator.parameters())
    assert all(p.grad is not None for p in trainer.generator.parameters())


def test_average_follows_d3_only_through_the_generator(toy_data: GZSLData) -> None:
    """The average of a D³ run is what the update makes of the start and the D³-trained weights."""
    trainer = diffusion(toy_data)
    start = [p.clone() for p in trainer.ema_generator.parameters()]
    d3 = d3_plugin.attach(trainer, settings=D3_SMALL)
    trainer.denoising_step(trainer.residuals[:16], toy_data.train_labels[:16])
    assert d3.steps == 1
    for average, before in zip(trainer.ema_generator.parameters(), start, strict=True):
        assert torch.equal(average, before)
    trainer.update_ema(1)
    decay = 2 / 11
    for average, before, weight in zip(
        trainer.ema_generator.parameters(), start, trainer.generator.parameters(), strict=True
    ):
        torch.testing.assert_close(average, decay * before + (1 - decay) * weight)


@pytest.mark.parametrize("build", HOSTS)
def test_fit_makes_a_d3_step_with_every_interval_th_generator_step(
    toy_data: GZSLData, build: Callable[[GZSLData], Any]
) -> None:
    trainer = build(toy_data)
    counted: list[int] = []
    trainer.generator_optimizer.register_step_post_hook(lambda *_: counted.append(1))
    d3 = d3_plugin.attach(trainer, settings=D3_SMALL)
    trainer.fit()
    assert len(counted) == SIZE["steps"]
    assert d3.steps == -(-len(counted) // d3.host.interval)
    assert d3.host.interval == (10 if build is diffusion else 1)
