"""A conditional diffusion generator of features, as a baseline and as a host of D³."""

from .settings import DiffusionSettings
from .trainer import DiffusionTrainer

__all__ = ["DiffusionSettings", "DiffusionTrainer"]
