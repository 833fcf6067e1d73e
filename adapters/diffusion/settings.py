"""Hyper-parameters of the diffusion generator."""

from __future__ import annotations

from dataclasses import dataclass

from d3_plugin.checks import Count

from ..training import TrainingSettings


@dataclass(frozen=True)
class DiffusionSettings(TrainingSettings):
    """Settings of :class:`~d3_adapters.diffusion.DiffusionTrainer`, in addition to those of all
    trainers.

    Attributes:
        power: exponent applied to features before they are standardised, in (0, 1]; 1 for none.
            Ignored if a training feature is negative.
        hidden: width of the denoiser.
        blocks: its residual blocks.
        ema: decay of the averaged weights that multi-step sampling uses; in step ``k`` at most
            ``(1 + k) / (10 + k)``.
        timesteps: of the noise schedule.
        sampling_steps: DDIM steps of sampling without gradient; 1 to 10 are enough.
    """

    steps: Count = 2000
    power: float = 0.5
    hidden: Count = 512
    blocks: Count = 2
    ema: float = 0.995
    timesteps: Count = 1000
    sampling_steps: Count = 5
