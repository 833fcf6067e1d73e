"""The diffusion baseline, its parts, and D³ on it."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

import d3_adapters.diffusion
import d3_plugin
from d3_adapters.diffusion import DiffusionSettings, DiffusionTrainer, hooks
from d3_adapters.diffusion.networks import Denoiser
from d3_adapters.diffusion.ridge import fit_ridge
from d3_adapters.diffusion.schedule import add_noise, cosine_alpha_bar, ddim_step, ddim_timesteps
from d3_adapters.diffusion.space import (
    FeatureSpace,
    matched_strength,
    residual_noise,
    within_class_residuals,
)
from d3_plugin import D3Settings
from d3_plugin.data import GZSLData

TINY = DiffusionSettings(steps=4, batch_size=16, hidden=16, synthetic_per_class=10)
SMALL = DiffusionSettings(steps=300, hidden=32, lr=2e-3, ema=0.98, sampling_steps=10)
D3_SMALL = D3Settings(embedding_dim=8, teacher_epochs=2, weight=0.5)


@pytest.fixture(scope="module")
def trained(toy_data: GZSLData) -> DiffusionTrainer:
    trainer = DiffusionTrainer(toy_data, SMALL, seed=0)
    trainer.fit()
    return trainer


def test_trainer_imports_nothing_of_d3_but_data_types() -> None:
    files = list(Path(d3_adapters.diffusion.__file__).parent.glob("*.py"))
    assert {"trainer.py", "networks.py", "ridge.py"} <= {p.name for p in files}
    for file in files:
        if file.name == "hooks.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                modules = [getattr(node, "module", None), *(alias.name for alias in node.names)]
                ours = [m for m in modules if m and m.startswith("d3_plugin")]
                assert ours in ([], ["d3_plugin.data"]), file.name


def test_cosine_schedule() -> None:
    alpha_bar = cosine_alpha_bar(1000)
    assert alpha_bar.shape == (1000,)
    assert (alpha_bar[1:] < alpha_bar[:-1]).all()
    assert alpha_bar[0] == pytest.approx(1, abs=1e-3)
    assert 0 < alpha_bar[-1] < 1e-6
    halfway = (
        np.cos((0.5 + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    )
    assert alpha_bar[499] == pytest.approx(halfway, rel=1e-5)


def test_timesteps_go_from_the_last_one_down() -> None:
    assert ddim_timesteps(1000, 1) == [999]
    assert ddim_timesteps(1000, 4) == [999, 749, 499, 249]
    assert ddim_timesteps(7, 7) == [6, 5, 4, 3, 2, 1, 0]
    for steps in (0, 8):
        with pytest.raises(ValueError, match="steps"):
            ddim_timesteps(7, steps)


@pytest.mark.parametrize("steps", [1, 5, 10])
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_schedule_and_steps_are_those_of_diffusers(steps: int, eta: float) -> None:
    scheduler = pytest.importorskip("diffusers").DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        clip_sample=False,
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(steps)
    alpha_bar, visited = cosine_alpha_bar(1000), ddim_timesteps(1000, steps)
    torch.testing.assert_close(alpha_bar, scheduler.alphas_cumprod, rtol=1e-3, atol=1e-6)
    assert visited == scheduler.timesteps.tolist()
    alpha_bar = scheduler.alphas_cumprod  # its float32 product, so that only the steps differ
    torch.manual_seed(0)
    theirs = ours = torch.randn(6, 4)
    for timestep, following in zip(visited, [*visited[1:], None], strict=True):
        clean, noise = torch.tanh(ours + 1), torch.randn(6, 4)
        theirs = scheduler.step(clean, timestep, theirs, eta=eta, variance_noise=noise).prev_sample
        after = torch.ones(()) if following is None else alpha_bar[following]
        ours = ddim_step(ours, clean, alpha_bar[timestep], after, eta, noise)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    noisy = add_noise(ours, noise, alpha_bar[torch.tensor([0, 9, 99, 499, 900, 999]), None])
    at = torch.tensor([0, 9, 99, 499, 900, 999])
    torch.testing.assert_close(noisy, scheduler.add_noise(ours, noise, at))


def test_random_steps_need_noise() -> None:
    half = torch.tensor(0.5)
    with pytest.raises(ValueError, match="noise"):
        ddim_step(torch.zeros(1, 2), torch.zeros(1, 2), half, half, eta=1.0)


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_perfect_denoiser_gives_the_clean_rows(
    toy_data: GZSLData, steps: int, eta: float
) -> None:
    trainer = DiffusionTrainer(toy_data, DiffusionSettings(sampling_steps=steps, eta=eta))
    classes = torch.tensor([1, 4, 0])
    truth = torch.randn(3, 12)
    rows = trainer._sample(lambda noisy, timesteps, attributes: truth, classes)
    expected = trainer.means[classes] + trainer.residual_scale * truth
    torch.testing.assert_close(rows, expected)


def test_a_one_point_denoiser_is_reached_along_the_marginals() -> None:
    """With the true clean rows, a deterministic step leads to the same noise at another level."""
    clean, noise = torch.randn(5, 3), torch.randn(5, 3)
    alpha_bar = cosine_alpha_bar(100)
    moved = ddim_step(add_noise(clean, noise, alpha_bar[80]), clean, alpha_bar[80], alpha_bar[30])
    torch.testing.assert_close(moved, add_noise(clean, noise, alpha_bar[30]))


@pytest.mark.parametrize("wide", [False, True])
def test_ridge_is_the_naive_one(wide: bool) -> None:
    """Normal equations with an unpenalised intercept, and one refit per class left out."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((8, 20 if wide else 3)), rng.standard_normal((8, 6))
    y[:, :3] += x[:, :3]
    unit = ((x - x.mean(0)) ** 2).sum(1).mean()

    def solve(rows: np.ndarray, strength: float, at: np.ndarray) -> np.ndarray:
        centred = x[rows] - x[rows].mean(0)
        gram = centred.T @ centred + strength * unit * np.eye(x.shape[1])
        weight = np.linalg.solve(gram, centred.T @ (y[rows] - y[rows].mean(0)))
        return (at - x[rows].mean(0)) @ weight + y[rows].mean(0)

    strengths = (0.01, 0.3, 10.0)
    refits = {
        s: np.stack([solve(np.delete(np.arange(8), c), s, x[c]) for c in range(8)])
        for s in strengths
    }
    best = min(strengths, key=lambda s: float(((refits[s] - y) ** 2).mean()))
    ridge = fit_ridge(torch.from_numpy(x), torch.from_numpy(y), strengths)
    assert ridge.strength == best
    np.testing.assert_allclose(ridge.left_out.numpy(), refits[best], rtol=1e-8)
    new = rng.standard_normal((4, x.shape[1]))
    np.testing.assert_allclose(
        ridge(torch.from_numpy(new)).numpy(), solve(np.arange(8), best, new), rtol=1e-8
    )


def test_ridge_needs_two_classes() -> None:
    with pytest.raises(ValueError, match="2 classes"):
        fit_ridge(torch.ones(1, 2), torch.ones(1, 3))


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_feature_space_there_and_back(power: float) -> None:
    features = torch.rand(50, 4)
    features[:, 3] = 0.25  # constant
    features[0, 0] = 0.0
    space = FeatureSpace.of(features, power)
    rows = space.standardise(features)
    torch.testing.assert_close(rows.std(dim=0), torch.tensor([1.0, 1.0, 1.0, 0.0]))
    torch.testing.assert_close(
        rows[:, 1] * space.scale[1] + space.center[1], features[:, 1] ** power
    )
    torch.testing.assert_close(space.restore(rows), features)
    assert (space.restore(torch.full((1, 4), -1e3)) == 0).all()


def test_features_that_may_be_negative_are_neither_bent_nor_clipped() -> None:
    features = torch.rand(50, 4) - 0.5
    space = FeatureSpace.of(features, 0.5)
    torch.testing.assert_close(space.restore(space.standardise(features)), features)
    assert (space.restore(torch.full((1, 4), -1e3)) < -1).all()


def test_within_class_residuals_by_hand() -> None:
    rows = torch.tensor([[0.0], [2.0], [10.0], [14.0]])
    residuals = within_class_residuals(rows, torch.tensor([0, 0, 1, 1]), 2)
    torch.testing.assert_close(residuals, torch.tensor([[-1.0], [1.0], [-2.0], [2.0]]))


def test_residual_noise_has_the_covariance_of_the_residuals() -> None:
    torch.manual_seed(0)
    residuals = torch.randn(30, 3, dtype=torch.double) @ torch.randn(3, 3, dtype=torch.double)
    noise = residual_noise(residuals, torch.randn(200_000, 30, dtype=torch.double))
    torch.testing.assert_close(
        noise.T @ noise / 200_000, residuals.T @ residuals / 30, atol=0.05, rtol=0
    )


@pytest.mark.parametrize("center", [0.0, 5.0])  # clipped for half of the rows, and never
@pytest.mark.parametrize("power", [1.0, 0.5])
def test_matched_strength_gives_the_wanted_spread(center: float, power: float) -> None:
    torch.manual_seed(0)
    space = FeatureSpace(torch.tensor([center]), torch.tensor([2.0]), power, 0.0)
    rows, noise = 0.2 * torch.randn(3, 2000, 1), torch.randn(3, 2000, 1)
    wanted = 2 * space.restore(rows).var(dim=1).mean()
    strength = matched_strength(rows, noise, wanted, space)
    got = space.restore(rows + strength * noise).var(dim=1).mean()
    assert float(got / wanted) == pytest.approx(1, rel=1e-3)
    assert float(matched_strength(rows, noise, wanted / 4, space)) == 0


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


def test_same_seed_same_run(toy_data: GZSLData) -> None:
    trainers = [DiffusionTrainer(toy_data, TINY, seed=seed) for seed in (3, 3, 4)]
    rows = []
    for trainer in trainers:
        torch.manual_seed(3)
        trainer.fit()
        rows.append(trainer.synthesize(torch.tensor([1, 4])))
    assert torch.equal(rows[0], rows[1])
    assert trainers[0].history == trainers[1].history
    assert [entry["step"] for entry in trainers[0].history] == [1, 2, 3, 4]
    assert not torch.equal(rows[0], rows[2])


def test_weight_zero_leaves_the_baseline_bit_identical(toy_data: GZSLData) -> None:
    alone = DiffusionTrainer(toy_data, TINY, seed=1)
    alone.fit()
    after = torch.get_rng_state()
    beside = DiffusionTrainer(toy_data, TINY, seed=1)
    settings = D3Settings(embedding_dim=8, teacher_epochs=2, weight=0.0)
    d3 = d3_plugin.attach(beside, data=toy_data, settings=settings)
    beside.fit()
    assert d3.steps == 1, "every fifth step, from the first on"
    assert torch.equal(after, torch.get_rng_state())
    assert alone.history == beside.history
    for net in ("generator", "ema_generator"):
        for one, other in zip(
            getattr(alone, net).parameters(), getattr(beside, net).parameters(), strict=True
        ):
            assert torch.equal(one, other)


@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_d3_gradient_is_non_zero_in_every_parameter_from_the_first_step(
    toy_data: GZSLData, guidance: float
) -> None:
    settings = DiffusionSettings(hidden=16, guidance=guidance)
    trainer = DiffusionTrainer(toy_data, settings, seed=1)
    d3 = d3_plugin.attach(trainer, settings=D3_SMALL, mode="loss", synthetic_per_class=5)
    d3.loss().backward()
    for name, parameter in trainer.generator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    assert all(p.grad is None for p in trainer.ema_generator.parameters())


def test_d3_changes_the_run(toy_data: GZSLData) -> None:
    trainer, alone = (DiffusionTrainer(toy_data, TINY, seed=1) for _ in range(2))
    d3 = d3_plugin.attach(trainer, settings=D3_SMALL)
    torch.manual_seed(1)
    trainer.fit()
    torch.manual_seed(1)
    alone.fit()
    assert d3.steps == 1, "every fifth step, from the first on"
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


def test_generated_spread_is_the_real_one(trained: DiffusionTrainer) -> None:
    torch.manual_seed(0)
    assert trained.spread_ratio() == pytest.approx(1, abs=0.1)
    assert trained.spread_ratio(differentiable=True) == pytest.approx(1, abs=0.15)
    trained_noise, trained.noise_sampled = trained.noise_sampled, torch.zeros(())
    bare = trained.spread_ratio()
    trained.noise_sampled = trained_noise
    assert bare < 0.95, "there was something to make up for"


def test_training_lowers_the_loss(trained: DiffusionTrainer) -> None:
    losses = [entry["denoising"] for entry in trained.history]
    assert losses[-1] < 0.95 * losses[0]


def test_unseen_conditions_are_not_snapped_to_seen_classes() -> None:
    """Rows made for an unseen class lie nearest to its own mean, where the ridge can know it.

    Means are linear in five attributes and ten classes are seen, so the ridge has no excuse.
    """
    rng = np.random.default_rng(0)
    attributes = rng.random((14, 5))
    centres = attributes @ rng.random((5, 12))
    seen, unseen = np.arange(10), np.arange(10, 14)

    def rows(classes: np.ndarray, per_class: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = np.repeat(classes, per_class)
        features = centres[labels] + 0.05 * rng.standard_normal((len(labels), 12))
        return torch.from_numpy(features).float(), torch.from_numpy(labels)

    data = GZSLData(
        "linear",
        *rows(seen, 30),
        *rows(seen, 5),
        *rows(unseen, 5),
        attributes=torch.from_numpy(attributes).float(),
        seen_classes=torch.from_numpy(seen),
        unseen_classes=torch.from_numpy(unseen),
        class_names=tuple(map(str, range(14))),
    )
    trainer = DiffusionTrainer(data, SMALL, seed=0)
    trainer.fit()
    classes = data.unseen_classes.repeat_interleave(100)
    made = trainer.synthesize(classes)
    nearest = torch.cdist(made, torch.from_numpy(centres).float()).argmin(dim=1)
    assert (nearest == classes).float().mean() > 0.9


def test_denoiser_sees_time_and_attributes() -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(feature_dim=3, attribute_dim=2, hidden=8, blocks=1)
    rows, times, attributes = torch.randn(4, 3), torch.tensor([0, 9, 500, 999]), torch.randn(4, 2)
    clean = denoiser(rows, times, attributes)
    assert clean.shape == (4, 3)
    assert not torch.allclose(clean, denoiser(rows, times.flip(0), attributes))
    assert not torch.allclose(clean, denoiser(rows, times, attributes.flip(0)))
    torch.testing.assert_close(clean[2:], denoiser(rows[2:], times[2:], attributes[2:]))
