"""The denoiser: an MLP of residual blocks that timestep and attributes scale and shift."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TIME_WIDTH = 64


def timestep_embedding(timesteps: Tensor) -> Tensor:
    """(N,) int64 -> (N, TIME_WIDTH) sines and cosines (Ho et al., NeurIPS 2020)."""
    half = TIME_WIDTH // 2
    steps = torch.arange(half, device=timesteps.device, dtype=torch.float32)
    angles = timesteps[:, None].float() * torch.exp(-math.log(10_000) * steps / half)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class FiLMBlock(nn.Module):
    """``x + MLP(norm(x) * (1 + scale) + shift)``: (N, H), condition (N, H) -> (N, H).

    Scale and shift are linear in the condition (FiLM: Perez et al., AAAI 2018).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.film = nn.Linear(width, 2 * width)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition).chunk(2, dim=1)
        inner = F.silu(self.inner(self.norm(x) * (1 + scale) + shift))
        residual: Tensor = self.outer(inner)
        return x + residual


class Denoiser(nn.Module):
    """``denoiser(noisy, timesteps, attributes)``: (N, D), (N,), (N, A) -> clean rows (N, D).

    The output layer starts small but not at zero: with zeros no gradient would reach the layers
    before it in the first step.
    """

    def __init__(self, feature_dim: int, attribute_dim: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.embed_time = nn.Linear(TIME_WIDTH, hidden)
        self.embed_attributes = nn.Linear(attribute_dim, hidden)
        self.enter = nn.Linear(feature_dim, hidden)
        self.blocks = nn.ModuleList(FiLMBlock(hidden) for _ in range(blocks))
        self.norm = nn.LayerNorm(hidden)
        self.leave = nn.Linear(hidden, feature_dim)
        nn.init.normal_(self.leave.weight, 0.0, 0.1 / math.sqrt(hidden))
        nn.init.zeros_(self.leave.bias)

    def forward(self, noisy: Tensor, timesteps: Tensor, attributes: Tensor) -> Tensor:
        time = self.embed_time(timestep_embedding(timesteps))
        condition = F.silu(time + self.embed_attributes(attributes))
        x = self.enter(noisy)
        for block in self.blocks:
            x = block(x, condition)
        clean: Tensor = self.leave(self.norm(x))
        return clean
