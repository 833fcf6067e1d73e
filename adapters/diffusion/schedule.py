"""The cosine noise schedule and the DDIM step: pure functions of tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cosine_alpha_bar(timesteps: int) -> Tensor:
    """Share of signal left after each step of the cosine schedule: (timesteps,) float32.

    Falls from almost 1 at step 0 to almost 0 at the last one. As published: s = 0.008, and no
    single step removes more than 0.999 of the signal, which keeps the last value above 0.

    Source: Nichol and Dhariwal, ICML 2021, equation 17.
    """
    at = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
    signal = torch.cos((at + 0.008) / 1.008 * math.pi / 2) ** 2
    betas = (1 - signal[1:] / signal[:-1]).clamp(max=0.999)
    return torch.cumprod(1 - betas, dim=0).float()


def ddim_timesteps(timesteps: int, steps: int) -> list[int]:
    """The steps that a sampler of ``steps`` steps visits, from ``timesteps - 1`` down.

    Evenly spaced from the last one, so that sampling starts at pure noise ("trailing" in Lin et
    al., WACV 2024, table 2).

    Raises:
        ValueError: more steps than timesteps.
    """
    if steps > timesteps:
        raise ValueError(f"sampling_steps must be at most timesteps ({timesteps}), got {steps}")
    return [round(timesteps - i * timesteps / steps) - 1 for i in range(steps)]


def add_noise(clean: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """The forward process: clean and noise (N, D), alpha_bar (N, 1) or 0-dim -> noisy (N, D)."""
    return alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * noise


def ddim_step(noisy: Tensor, clean: Tensor, alpha_bar: Tensor, previous: Tensor) -> Tensor:
    """One deterministic reverse step, given the estimate of the clean rows.

    Args:
        noisy: (N, D) at the current step.
        clean: (N, D) estimated clean rows.
        alpha_bar: 0-dim or (N, 1), of the current step, below 1.
        previous: of the step to go to, the less noisy one; 1 for the clean rows.

    Returns:
        (N, D) at the step gone to.

    Source: Song, Meng, Ermon, ICLR 2021, equation 12 with σ = 0.
    """
    estimated = (noisy - alpha_bar.sqrt() * clean) / (1 - alpha_bar).sqrt()
    return add_noise(clean, estimated, previous)
