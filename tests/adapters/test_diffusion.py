"""The diffusion baseline, and D³ on it."""

from __future__ import annotations

import pytest
import torch

import d3_plugin
from d3_adapters.diffusion import DiffusionSettings, DiffusionTrainer, hooks
from d3_adapters.diffusion.space import class_means
from d3_plugin import D3Settings
from d3_plugin.data import GZSLData
from tests.toys import linear_problem

TINY = DiffusionSettings(steps=4, batch_size=16, hidden=16, synthetic_per_class=10)
SMALL = DiffusionSettings(steps=300, hidden=32, lr=2e-3, ema=0.98, sampling_steps=10)
D3_SMALL = D3Settings(embedding_dim=8, teacher_epochs=2, weight=0.5)


@pytest.fixture(scope="module")
def trained(toy_data: GZSLData) -> DiffusionTrainer:
    trainer = DiffusionTrainer(toy_data, SMALL, seed=0)
    trainer.fit()
    return trainer


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_a_perfect_denoiser_gives_the_clean_rows(toy_data: GZSLData, steps: int) -> None:
    trainer = DiffusionTrainer(toy_data, DiffusionSettings(hidden=8, sampling_steps=steps))
    classes = torch.tensor([1, 4, 0])
    truth = torch.randn(3, 12)
    trainer.ema_generator.forward = lambda noisy, timesteps, attributes: truth
    rows = trainer._sample(classes)
    expected = trainer.means[classes] + trainer.residual_scale * truth
    torch.testing.assert_close(rows, expected)


def test_ema_formula(toy_data: GZSLData) -> None:
    trainer = DiffusionTrainer(toy_data, DiffusionSettings(hidden=8, ema=0.7))
    weight, average = trainer.generator.enter.weight, trainer.ema_generator.enter.weight
    expected = average.clone()
    for step in range(1, 40):
        with torch.no_grad():
            weight.add_(1.0)
        trainer.update_ema(step)
        decay = min(0.7, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight.detach()
    torch.testing.assert_close(average, expected)
    assert not average.requires_grad


def test_denoising_loss_by_hand(toy_data: GZSLData, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = DiffusionTrainer(toy_data, TINY)
    monkeypatch.setattr(
        trainer.generator, "forward", lambda x, t, a: x * 0 + trainer.generator.leave.bias
    )
    with torch.no_grad():
        trainer.generator.leave.bias.fill_(1.0)
    loss = trainer.denoising_step(torch.full((5, 12), 3.0), torch.zeros(5, dtype=torch.long))
    assert float(loss) == pytest.approx(0.5 * 12 * (1 - 3) ** 2 / 12**0.5)


def test_d3_changes_the_run(toy_data: GZSLData) -> None:
    trainer, alone = (DiffusionTrainer(toy_data, TINY, seed=1) for _ in range(2))
    d3 = d3_plugin.attach(trainer, settings=D3_SMALL)
    torch.manual_seed(1)
    trainer.fit()
    torch.manual_seed(1)
    alone.fit()
    assert d3.steps == 1, "every tenth step, from the first on"
    for one, other in zip(
        trainer.ema_generator.parameters(), alone.ema_generator.parameters(), strict=True
    ):
        assert not torch.equal(one, other)
    assert d3.evaluate().metrics.zsl > 0


def test_synthesis(toy_data: GZSLData) -> None:
    trainer = DiffusionTrainer(toy_data, TINY)
    classes = torch.tensor([1, 4, 4, 0, 1])
    for differentiable in (False, True):
        torch.manual_seed(5)
        rows = trainer.synthesize(classes, differentiable)
        assert rows.shape == (5, 12)
        assert rows.dtype == torch.float32
        assert rows.requires_grad is differentiable
        assert rows.min() >= 0
        torch.manual_seed(5)
        assert torch.equal(rows, trainer.synthesize(classes, differentiable))
        assert not torch.equal(rows, trainer.synthesize(classes, differentiable))


def test_the_host_lists_every_module_of_its_synthesis(toy_data: GZSLData) -> None:
    trainer = DiffusionTrainer(toy_data, TINY)
    host = hooks.d3_describe_host(trainer)
    used = {id(m) for m in vars(trainer).values() if isinstance(m, torch.nn.Module)}
    assert used == {id(m) for m in host.modules}
    assert hooks.d3_describe_host(object()) is None


@torch.no_grad()
def spread_ratio(trainer: DiffusionTrainer, differentiable: bool) -> float:
    """Generated to real within-class standard deviation, both root mean squares over D."""
    seen = trainer.data.seen_classes
    rows = trainer.synthesize(seen.repeat_interleave(50), differentiable)
    variance = rows.view(len(seen), 50, -1).var(dim=1).mean()
    return float((variance / trainer.real_variance).sqrt())


def test_generated_spread_is_the_real_one(
    trained: DiffusionTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    assert spread_ratio(trained, differentiable=False) == pytest.approx(1, abs=0.1)
    assert spread_ratio(trained, differentiable=True) == pytest.approx(1, abs=0.15)
    monkeypatch.setattr(trained, "noise_sampled", torch.zeros(()))
    bare = spread_ratio(trained, differentiable=False)
    assert bare < 0.95, "there was something to make up for"


def test_training_lowers_the_loss(trained: DiffusionTrainer) -> None:
    losses = [entry["denoising"] for entry in trained.history]
    assert losses[-1] < 0.95 * losses[0]


def test_unseen_conditions_are_not_snapped_to_seen_classes() -> None:
    """Rows made for an unseen class lie nearest to its own mean, where the ridge can know it.

    Means are linear in five attributes and ten classes are seen, so the ridge has no excuse.
    """
    data = linear_problem(list(range(10)), list(range(10, 14)), per_class=30, spread=0.05 / 3)
    trainer = DiffusionTrainer(data, SMALL, seed=0)
    trainer.fit()
    classes = data.unseen_classes.repeat_interleave(100)
    made = trainer.synthesize(classes)
    means = class_means(
        torch.cat([data.train_features, data.test_unseen_features]),
        torch.cat([data.train_labels, data.test_unseen_labels]),
        data.num_classes,
    )
    nearest = torch.cdist(made, means).argmin(dim=1)
    assert (nearest == classes).float().mean() > 0.9
