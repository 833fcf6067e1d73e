"""A conditional diffusion generator of features, as a baseline and as a host of D³."""

from d3_adapters.diffusion.settings import DiffusionSettings
from d3_adapters.diffusion.trainer import DiffusionTrainer

__all__ = ["DiffusionSettings", "DiffusionTrainer"]
