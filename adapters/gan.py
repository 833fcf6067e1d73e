"""What the GANs of the field share: layers, their initial weights, critic, losses, optimiser."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

SLOPE = 0.2


def leaky_layers(*widths: int) -> nn.Sequential:
    """Linear layers of these widths, each followed by a leaky ReLU."""
    pairs = ((nn.Linear(a, b), nn.LeakyReLU(SLOPE)) for a, b in pairwise(widths))
    return nn.Sequential(*(layer for pair in pairs for layer in pair))


def init_weights(module: nn.Module) -> None:
    """Normal weights of standard deviation 0.02, no bias; for ``network.apply``."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        nn.init.zeros_(module.bias)


class Critic(nn.Module):
    """``critic(features, attributes)``: (N, D), (N, A) -> (N, 1), unbounded."""

    def __init__(self, feature_dim: int, attribute_dim: int, hidden: int) -> None:
        super().__init__()
        inner = leaky_layers(feature_dim + attribute_dim, hidden)
        self.layers = nn.Sequential(*inner, nn.Linear(hidden, 1))
        self.apply(init_weights)

    def forward(self, features: Tensor, attributes: Tensor) -> Tensor:
        score: Tensor = self.layers(torch.cat([features, attributes], dim=1))
        return score


def adam(network: nn.Module, lr: float) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=lr, betas=(0.5, 0.999), fused=True)


def critic_loss(critic: nn.Module, real: Tensor, fake: Tensor, attributes: Tensor) -> Tensor:
    """Mean score of fake rows (N, D) minus that of real ones, to be minimised."""
    rows, conditions = torch.cat([real, fake]), torch.cat([attributes, attributes])
    real_score, fake_score = critic(rows, conditions).chunk(2)
    loss: Tensor = fake_score.mean() - real_score.mean()
    return loss


def gradient_penalty(
    critic: Callable[[Tensor, Tensor], Tensor], real: Tensor, fake: Tensor, attributes: Tensor
) -> Tensor:
    """Mean of (‖slope‖ - 1)² of the critic at random points between (N, D) real and fake rows.

    Unweighted; the gradient penalty of WGAN-GP (Gulrajani et al., NeurIPS 2017).
    """
    between = torch.lerp(fake, real, torch.rand(len(real), 1, device=real.device))
    between.requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(between, attributes).sum(), between, create_graph=True)
    penalty: Tensor = ((slope.norm(dim=1) - 1) ** 2).mean()
    return penalty
