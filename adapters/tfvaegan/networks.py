"""Encoder, generator and decoder of TF-VAEGAN, each a multi-layer perceptron."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..gan import SLOPE, init_weights, leaky_layers


class Encoder(nn.Module):
    """``encoder(features, attributes)``: (N, D), (N, A) -> mean (N, Z), log-variance (N, Z)."""

    def __init__(self, feature_dim: int, attribute_dim: int, noise_dim: int, hidden: int) -> None:
        super().__init__()
        self.layers = leaky_layers(feature_dim + attribute_dim, hidden, 2 * noise_dim)
        self.mean = nn.Linear(2 * noise_dim, noise_dim)
        self.log_variance = nn.Linear(2 * noise_dim, noise_dim)
        self.apply(init_weights)

    def forward(self, features: Tensor, attributes: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.layers(torch.cat([features, attributes], dim=1))
        return self.mean(hidden), self.log_variance(hidden)


class Generator(nn.Module):
    """``generator(noise, attributes, feedback)``: (N, Z), (N, A), (N, H) -> (N, D) in [0, 1].

    The feedback, weighted by the caller, is added to the hidden layer; None adds nothing.
    """

    def __init__(self, noise_dim: int, attribute_dim: int, feature_dim: int, hidden: int) -> None:
        super().__init__()
        self.to_hidden = nn.Linear(noise_dim + attribute_dim, hidden)
        self.to_features = nn.Linear(hidden, feature_dim)
        self.apply(init_weights)

    def forward(self, noise: Tensor, attributes: Tensor, feedback: Tensor | None = None) -> Tensor:
        hidden = F.leaky_relu(self.to_hidden(torch.cat([noise, attributes], dim=1)), SLOPE)
        if feedback is not None:
            hidden = hidden + feedback
        features: Tensor = self.to_features(hidden).sigmoid()
        return features


class SemanticDecoder(nn.Module):
    """``decoder(features)``: (N, D) -> attributes (N, A) of L2 norm 1, and hidden layer (N, H)."""

    def __init__(self, feature_dim: int, attribute_dim: int, hidden: int) -> None:
        super().__init__()
        self.to_hidden = nn.Linear(feature_dim, hidden)
        self.to_attributes = nn.Linear(hidden, attribute_dim)
        self.apply(init_weights)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        hidden = F.leaky_relu(self.to_hidden(features), SLOPE)
        return F.normalize(self.to_attributes(hidden)), hidden
