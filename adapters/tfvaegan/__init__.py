"""TF-VAEGAN (Narayan et al., ECCV 2020) as a baseline and as a host of D³."""

from d3_adapters.tfvaegan.settings import TFVAEGANSettings, published_settings
from d3_adapters.tfvaegan.trainer import TFVAEGANTrainer

__all__ = ["TFVAEGANSettings", "TFVAEGANTrainer", "published_settings"]
