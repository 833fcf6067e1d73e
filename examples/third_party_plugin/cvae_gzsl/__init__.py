"""A conditional VAE for generalized zero-shot learning, and its hooks for d3_plugin."""

from cvae_gzsl.trainer import CVAESettings, CVAETrainer

__all__ = ["CVAESettings", "CVAETrainer"]
