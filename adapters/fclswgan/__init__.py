"""f-CLSWGAN (Xian, Lorenz, Schiele, Akata, CVPR 2018) as a baseline and as a host of D³."""

from .trainer import FCLSWGANSettings, FCLSWGANTrainer

__all__ = ["FCLSWGANSettings", "FCLSWGANTrainer"]
