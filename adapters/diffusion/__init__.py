"""A conditional diffusion generator of features, as a baseline and as a host of D³."""

from .trainer import DiffusionSettings, DiffusionTrainer

__all__ = ["DiffusionSettings", "DiffusionTrainer"]
