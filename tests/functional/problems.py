"""Random rows and relations for the tests of relations."""

from __future__ import annotations

import torch
from torch import Tensor

SHAPES = [(1, 1, 2), (1, 4, 3), (5, 3, 2), (6, 6, 8)]  # N, M, K


def random_rows(
    n: int,
    k: int,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, k, generator=generator, dtype=torch.float64).to(device, dtype)


def random_problem(
    n: int,
    m: int,
    k: int,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (N, K), columns (M, K) and a relation (N, M)."""
    rows, columns = (random_rows(r, k, seed + s, dtype, device) for r, s in ((n, 0), (m, 100)))
    return rows, columns, random_rows(n, m, seed + 200, device=device) > 0.3


def gradients(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, inputs))
