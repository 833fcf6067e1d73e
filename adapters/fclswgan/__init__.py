"""f-CLSWGAN (Xian, Lorenz, Schiele, Akata, CVPR 2018) as a baseline and as a host of D³."""

from d3_adapters.fclswgan.trainer import FCLSWGANSettings, FCLSWGANTrainer

__all__ = ["FCLSWGANSettings", "FCLSWGANTrainer"]
