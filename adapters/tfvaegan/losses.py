"""The loss terms of TF-VAEGAN (Narayan et al., ECCV 2020, section 3)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) ‖ N(0, 1)) of (N, Z) normals: sum over Z, mean over N."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()


def vae_loss(reconstruction: Tensor, features: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Negative ELBO: binary cross-entropy of (N, D) rows in [0, 1], summed over D, plus the KL."""
    targets = features.clamp(0, 1)  # min-max scaling leaves [0, 1] by a rounding error
    bce = F.binary_cross_entropy(reconstruction, targets, reduction="sum") / len(features)
    return bce + kl_to_standard_normal(mean, log_var)


def attribute_loss(decoded: Tensor, attributes: Tensor) -> Tensor:
    """L1 distance of (N, A) rows, each entry weighted by its share d²/‖d‖ of the row's error d."""
    error = (decoded - attributes).abs()
    weight = error**2 / error.norm(dim=1, keepdim=True).clamp_min(1e-12)
    loss: Tensor = (weight * error).sum(dim=1).mean()
    return loss


def adapted_weight(weight: Tensor, penalty: Tensor) -> Tensor:
    """The next weight of the gradient penalty: higher where the critic's slope is too far from 1.

    Args:
        weight: 0-dim; times 1.1 if the penalty is above 1.05, divided by 1.1 if below 1.001.
        penalty: 0-dim, mean unweighted gradient penalty of the last critic steps.
    """
    direction = (penalty > 1.05).to(weight) - (penalty < 1.001).to(weight)
    return weight * 1.1**direction
