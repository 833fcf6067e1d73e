"""Generator and conditional critic of f-CLSWGAN: one hidden layer each."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        nn.init.zeros_(module.bias)


class Generator(nn.Module):
    """``generator(noise, attributes)``: (N, Z), (N, A) -> features (N, D), at least 0."""

    def __init__(self, noise_dim: int, attribute_dim: int, feature_dim: int, hidden: int) -> None:
        super().__init__()
        self.noise_dim = noise_dim
        self.layers = nn.Sequential(
            nn.Linear(noise_dim + attribute_dim, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, feature_dim),
            nn.ReLU(),
        )
        self.apply(_init_weights)

    def forward(self, noise: Tensor, attributes: Tensor) -> Tensor:
        features: Tensor = self.layers(torch.cat([noise, attributes], dim=1))
        return features


class Critic(nn.Module):
    """``critic(features, attributes)``: (N, D), (N, A) -> (N, 1), unbounded."""

    def __init__(self, feature_dim: int, attribute_dim: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(feature_dim + attribute_dim, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, 1),
        )
        self.apply(_init_weights)

    def forward(self, features: Tensor, attributes: Tensor) -> Tensor:
        score: Tensor = self.layers(torch.cat([features, attributes], dim=1))
        return score
