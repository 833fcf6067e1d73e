"""The parts of the diffusion baseline: schedule, steps, class means, feature space, denoiser."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from d3_adapters.diffusion.networks import Denoiser
from d3_adapters.diffusion.schedule import add_noise, cosine_alpha_bar, ddim_step, ddim_timesteps
from d3_adapters.diffusion.space import (
    FeatureSpace,
    class_means,
    matched_strength,
    residual_noise,
    ridge_means,
)


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
    with pytest.raises(ValueError, match=r"sampling_steps must be at most timesteps \(7\), got 8"):
        ddim_timesteps(7, 8)


@pytest.mark.parametrize("steps", [1, 5, 10])
def test_schedule_and_steps_are_those_of_diffusers(steps: int) -> None:
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
        clean = torch.tanh(ours + 1)
        theirs = scheduler.step(clean, timestep, theirs).prev_sample
        after = torch.ones(()) if following is None else alpha_bar[following]
        ours = ddim_step(ours, clean, alpha_bar[timestep], after)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    noise, at = torch.randn(6, 4), torch.tensor([0, 9, 99, 499, 900, 999])
    noisy = add_noise(ours, noise, alpha_bar[at, None])
    torch.testing.assert_close(noisy, scheduler.add_noise(ours, noise, at))


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
    x, y = rng.standard_normal((12, 20 if wide else 3)), rng.standard_normal((8, 6))
    y[:, :3] += x[:8, :3]
    unit = ((x[:8] - x[:8].mean(0)) ** 2).sum(1).mean()

    def solve(rows: np.ndarray, strength: float, at: np.ndarray) -> np.ndarray:
        centred = x[rows] - x[rows].mean(0)
        gram = centred.T @ centred + strength * unit * np.eye(x.shape[1])
        weight = np.linalg.solve(gram, centred.T @ (y[rows] - y[rows].mean(0)))
        return (at - x[rows].mean(0)) @ weight + y[rows].mean(0)

    strengths = [10 ** (i / 2) for i in range(-8, 9)]
    refits = {
        s: np.stack([solve(np.delete(np.arange(8), c), s, x[c]) for c in range(8)])
        for s in strengths
    }
    best = min(strengths, key=lambda s: float(((refits[s] - y) ** 2).mean()))
    assert strengths[0] < best < strengths[-1]
    found = ridge_means(torch.from_numpy(x), torch.arange(8), torch.from_numpy(y))
    np.testing.assert_allclose(found.numpy(), solve(np.arange(8), best, x), rtol=1e-8)


def test_ridge_needs_two_classes() -> None:
    with pytest.raises(ValueError, match="at least 2 seen classes, got 1"):
        ridge_means(torch.ones(3, 2), torch.tensor([0]), torch.ones(1, 3))


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


def test_class_means_by_hand() -> None:
    rows = torch.tensor([[0.0], [10.0], [2.0], [14.0]])
    means = class_means(rows, torch.tensor([0, 1, 0, 1]), 2)
    torch.testing.assert_close(means, torch.tensor([[1.0], [12.0]]))


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


def test_denoiser_sees_time_and_attributes() -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(feature_dim=3, attribute_dim=2, hidden=8, blocks=1)
    rows, times, attributes = torch.randn(4, 3), torch.tensor([0, 9, 500, 999]), torch.randn(4, 2)
    clean = denoiser(rows, times, attributes)
    assert clean.shape == (4, 3)
    assert not torch.allclose(clean, denoiser(rows, times.flip(0), attributes))
    assert not torch.allclose(clean, denoiser(rows, times, attributes.flip(0)))
    torch.testing.assert_close(clean[2:], denoiser(rows[2:], times[2:], attributes[2:]))
