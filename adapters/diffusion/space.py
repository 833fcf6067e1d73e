"""What is fitted once on the training rows: feature space, class means, the noise's strength."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LARGEST_STRENGTH = 4.0


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """Standardised features: mean 0 and standard deviation 1 per dimension on the training rows.

    Features that are never negative (after a ReLU, or min-max scaling) pile up at 0 and have a long
    tail; a power below 1 makes them more like the normal rows that a diffusion starts from and a
    ridge regression suits (Tukey's ladder of powers; for few-shot features Yang, Liu, Xu, ICLR
    2021).

    Attributes:
        center, scale: (D,) training mean and standard deviation of the powers; scale 1 for constant
            dimensions.
        power: exponent applied to features first; 1 where training features may be negative.
        lowest: lower bound of features on the way back: 0, or no bound where they may be negative.
    """

    center: Tensor
    scale: Tensor
    power: float
    lowest: float

    @classmethod
    def of(cls, features: Tensor, power: float) -> FeatureSpace:
        """Fitted on training features (N, D); ``power`` is ignored if one of them is negative."""
        negative = bool((features < 0).any())
        power, lowest = (1.0, -torch.inf) if negative else (power, 0.0)
        powers = features.pow(power)
        scale = powers.std(dim=0)
        scale = torch.where(scale > 1e-6, scale, torch.ones_like(scale))
        return cls(powers.mean(dim=0), scale, power, lowest)

    def standardise(self, features: Tensor) -> Tensor:
        return (features.pow(self.power) - self.center) / self.scale

    def restore(self, rows: Tensor) -> Tensor:
        """Standardised rows (..., D) -> features (..., D), not below ``lowest``."""
        powers = (rows * self.scale + self.center).clamp(min=self.lowest)
        return powers if self.power == 1 else powers.pow(1 / self.power)


def class_means(rows: Tensor, positions: Tensor, num_classes: int) -> Tensor:
    """Means of rows (N, D) by class position (N,): (num_classes, D)."""
    member = F.one_hot(positions, num_classes).to(rows)  # a product is the same every time on GPUs
    return (member.T @ rows) / member.sum(dim=0)[:, None]


def ridge_means(attributes: Tensor, seen: Tensor, means: Tensor) -> Tensor:
    """Feature means of all classes, regressed from attributes by ridge: (C, D).

    Every seen class weighs the same, and the strength is the one with the smallest squared error on
    left-out classes. Strengths count in mean squared norms of the centred attributes, whatever
    their scale. The fit runs in float64 on the CPU.

    Args:
        attributes: (C, A) of all classes.
        seen: (S,) the ids of the seen ones, S >= 2.
        means: (S, D) of their training rows.

    Raises:
        ValueError: there is only one seen class.
    """
    from sklearn.linear_model import RidgeCV

    if len(seen) < 2:
        raise ValueError(f"ridge regression needs at least 2 seen classes, got {len(seen)}")
    x, y = attributes[seen].cpu().double().numpy(), means.cpu().double().numpy()
    center = x.mean(axis=0)
    unit = max(((x - center) ** 2).sum(axis=1).mean(), 1e-12)
    ridge = RidgeCV(alphas=unit * 10 ** np.linspace(-4, 4, 17)).fit(x, y)
    weight, center, offset = (
        torch.from_numpy(part).to(means) for part in (ridge.coef_.T, center, y.mean(axis=0))
    )
    return (attributes - center) @ weight + offset


def residual_noise(residuals: Tensor, normal: Tensor) -> Tensor:
    """Normal noise with the covariance of real residuals: rows are random sums of all of them.

    Args:
        residuals: (N, D), mean 0.
        normal: (M, N) standard normal.

    Returns:
        (M, D) of covariance ``residuals.T @ residuals / N``.
    """
    return normal @ residuals / math.sqrt(len(residuals))


def matched_strength(rows: Tensor, noise: Tensor, wanted: Tensor, space: FeatureSpace) -> Tensor:
    """How much noise gives generated features the spread around their class that real ones have.

    Found by bisection: the way from rows to features bends and clips, so variances do not add.

    Args:
        rows: (S, M, D) standardised, M generated rows of each of S classes.
        noise: (S, M, D).
        wanted: 0-dim, mean over D of the real within-class variance of the features.
        space: to get from rows to features.

    Returns:
        0-dim factor of the noise; 0 where the rows already spread enough.
    """
    low, high = torch.zeros_like(wanted), torch.full_like(wanted, LARGEST_STRENGTH)
    for _ in range(16):
        middle = (low + high) / 2
        narrow = space.restore(rows + middle * noise).var(dim=1).mean() < wanted
        low, high = torch.where(narrow, middle, low), torch.where(narrow, high, middle)
    return torch.where(low > 0, (low + high) / 2, low)
