"""A plain conditional VAE on features; knows nothing of D³."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d3_plugin.data import GZSLData


@dataclass(frozen=True)
class CVAESettings:
    """Settings of :class:`CVAETrainer`.

    Attributes:
        steps: optimiser steps.
        batch_size: rows per step.
        lr: of Adam.
        hidden: width of the hidden layers.
        latent: Z, width of the latent noise.
        kl_weight: of the KL divergence, relative to the squared error.
        synthetic_per_class: rows per unseen class for the final classifier.
        anchor_weight, anchor_temperature: of the loss term that ``hooks.py`` adds to D³'s; not
            used by the baseline.
    """

    steps: int = 600
    batch_size: int = 64
    lr: float = 1e-3
    hidden: int = 256
    latent: int = 16
    kl_weight: float = 0.05
    synthetic_per_class: int = 200
    anchor_weight: float = 0.1
    anchor_temperature: float = 0.1

    def __post_init__(self) -> None:
        above_zero = ("steps", "batch_size", "lr", "hidden", "latent", "anchor_temperature")
        wrong = [name for name in above_zero if getattr(self, name) <= 0]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} must be above 0: {self}")


def _two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, outputs))


class CVAETrainer:
    """Encoder q(z | x, a) and decoder p(x | z, a) of features x, given the attributes a.

    Args:
        data: the GZSL problem; only its training rows and attributes are used.
        settings: hyper-parameters.
        seed: of PyTorch's global random stream, set here once.
        device: where to train.

    Attributes:
        generator: the decoder, ``(N, Z + A) -> (N, D)``.
        optimizer: one Adam for both networks.
        history: dicts of ``step`` and the mean losses since the entry before.
    """

    def __init__(
        self,
        data: GZSLData,
        settings: CVAESettings | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        torch.manual_seed(seed)
        self.settings = s = settings or CVAESettings()
        self.device = torch.device(device)
        self.data = data.to(self.device)
        width, attributes = data.feature_dim, data.attributes.shape[1]
        self.encoder = _two_layers(width + attributes, s.hidden, 2 * s.latent).to(self.device)
        self.generator = _two_layers(s.latent + attributes, s.hidden, width).to(self.device)
        parameters = [*self.encoder.parameters(), *self.generator.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=s.lr)
        self.history: list[dict[str, float]] = []

    def fit(self) -> None:
        """Train, and append mean losses to ``history`` 20 times."""
        s = self.settings
        part = max(1, s.steps // 20)
        total = torch.zeros(2, device=self.device)
        for step in range(1, s.steps + 1):
            rows = torch.randint(len(self.data.train_labels), (s.batch_size,), device=self.device)
            total += self.step(self.data.train_features[rows], self.data.train_labels[rows])
            if step % part == 0:
                error, divergence = (total / part).tolist()
                self.history.append({"step": step, "error": error, "kl": divergence})
                total.zero_()

    def step(self, features: Tensor, labels: Tensor) -> Tensor:
        """One step on (B, D) and (B,); returns squared error and KL divergence, per row (2,)."""
        attributes = self.data.attributes[labels]
        mean, log_variance = self.encoder(torch.cat([features, attributes], dim=1)).chunk(2, dim=1)
        noise = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        decoded = self.generator(torch.cat([noise, attributes], dim=1))
        error = F.mse_loss(decoded, features, reduction="sum") / len(features)
        divergence = mean.square() + log_variance.exp() - 1 - log_variance
        divergence = divergence.sum() / (2 * len(features))
        self.optimizer.zero_grad(set_to_none=True)
        (error + self.settings.kl_weight * divergence).backward()
        self.optimizer.step()
        return torch.stack([error, divergence]).detach()

    def synthesize(self, classes: Tensor) -> Tensor:
        """One decoded row for each class id of ``classes`` (N,): (N, D), with gradient."""
        noise = torch.randn(len(classes), self.settings.latent, device=self.device)
        return self.generator(torch.cat([noise, self.data.attributes[classes]], dim=1))
