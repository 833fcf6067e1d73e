"""The space the diffusion runs in, and noise that makes up for missing spread."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """Standardised features: mean 0 and standard deviation 1 per dimension on the training rows.

    Attributes:
        center, scale: (D,) training mean and standard deviation; 1 for constant dimensions.
        lowest: lower bound of features on the way back: 0 where no training feature is negative
            (as after a ReLU, or min-max scaling), else no bound.
    """

    center: Tensor
    scale: Tensor
    lowest: float

    @classmethod
    def of(cls, features: Tensor) -> FeatureSpace:
        """Fitted on training features (N, D)."""
        scale = features.std(dim=0)
        scale = torch.where(scale > 1e-6, scale, torch.ones_like(scale))
        lowest = 0.0 if bool((features >= 0).all()) else -torch.inf
        return cls(features.mean(dim=0), scale, lowest)

    def standardise(self, features: Tensor) -> Tensor:
        return (features - self.center) / self.scale

    def restore(self, rows: Tensor) -> Tensor:
        """Standardised rows (..., D) -> features (..., D), not below ``lowest``."""
        return (rows * self.scale + self.center).clamp(min=self.lowest)


def class_means(rows: Tensor, positions: Tensor, num_classes: int) -> Tensor:
    """Means of rows (N, D) by class position (N,): (num_classes, D)."""
    member = F.one_hot(positions, num_classes).to(rows)  # a product is the same every time on GPUs
    return (member.T @ rows) / member.sum(dim=0)[:, None]


def within_class_std(rows: Tensor, positions: Tensor, num_classes: int) -> Tensor:
    """Standard deviation around the class means, pooled over the classes: (D,).

    Unbiased in the variance: N minus ``num_classes`` degrees of freedom.
    """
    around = rows - class_means(rows, positions, num_classes)[positions]
    return (around.square().sum(dim=0) / max(len(rows) - num_classes, 1)).sqrt()


def matched_noise(
    rows: Tensor, noise: Tensor, wanted: Tensor, space: FeatureSpace, rounds: int = 10
) -> Tensor:
    """How much noise per dimension gives generated features the spread that real ones have.

    Variances add, but clipping takes some away again, so the noise's variance is corrected by the
    shortfall seen in the features, several times.

    Args:
        rows: (S, M, D) standardised, M generated rows of each of S classes.
        noise: (S, M, D) standard normal.
        wanted: (D,) real within-class standard deviation of the features.
        space: to get from rows to features.
        rounds: corrections.

    Returns:
        (D,) standard deviation of the noise in standardised space; 0 where nothing is missing, at
        most 3 times the wanted one.
    """
    unit = (wanted / space.scale).square()
    variance = torch.zeros_like(wanted)
    for _ in range(rounds):
        got = space.restore(rows + variance.sqrt() * noise).var(dim=1).mean(dim=0)
        missing = (wanted.square() - got) / space.scale.square()
        variance = torch.minimum((variance + missing).clamp(min=0), 9 * unit)
    return variance.sqrt()
