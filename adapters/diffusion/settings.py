"""Hyper-parameters of the diffusion generator."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DiffusionSettings:
    """Settings of :class:`~d3_adapters.diffusion.trainer.DiffusionTrainer`.

    Attributes:
        steps: optimiser steps.
        batch_size: rows per step.
        lr: of Adam.
        power: what features are raised to before they are standardised, in (0, 1]; 1 for none. It
            counts only where no training feature is negative.
        hidden: width of the denoiser.
        blocks: its residual blocks.
        ema: decay of the averaged weights that multi-step sampling uses; in step ``k`` at most
            ``(1 + k) / (10 + k)``.
        timesteps: of the noise schedule.
        sampling_steps: DDIM steps of sampling without gradient, 1 to 10 are enough.
        eta: randomness of those steps: 0 for DDIM, 1 for DDPM's.
        guidance: classifier-free guidance of the residual (Ho and Salimans 2022): 1 for none, above
            1 for more of what the attributes change.
        condition_dropout: share of rows trained without attributes; only with guidance.
        synthetic_per_class: rows per unseen class for the final classifier.
        classifier_epochs, classifier_lr: of the final classifier.
    """

    steps: int = 2000
    batch_size: int = 64
    lr: float = 3e-4
    power: float = 0.5
    hidden: int = 512
    blocks: int = 2
    ema: float = 0.995
    timesteps: int = 1000
    sampling_steps: int = 5
    eta: float = 0.0
    guidance: float = 1.0
    condition_dropout: float = 0.1
    synthetic_per_class: int = 200
    classifier_epochs: int = 25
    classifier_lr: float = 1e-3
