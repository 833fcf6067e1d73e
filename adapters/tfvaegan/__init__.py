"""TF-VAEGAN (Narayan et al., ECCV 2020) as a baseline and as a host of D³."""

from .trainer import TFVAEGANSettings, TFVAEGANTrainer

__all__ = ["TFVAEGANSettings", "TFVAEGANTrainer"]
