"""The loss terms of TF-VAEGAN (Narayan et al., ECCV 2020, section 3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) ‖ N(0, 1)) of (N, Z) normals: sum over Z, mean over N."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()


def vae_loss(reconstruction: Tensor, features: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Negative ELBO: binary cross-entropy of (N, D) rows in [0, 1], summed over D, plus the KL."""
    targets = features.clamp(0, 1)  # min-max scaling leaves [0, 1] by a rounding
    bce = F.binary_cross_entropy(reconstruction, targets, reduction="sum") / len(features)
    return bce + kl_to_standard_normal(mean, log_var)


def attribute_loss(decoded: Tensor, attributes: Tensor) -> Tensor:
    """L1 distance of (N, A) rows, each entry weighted by its share d²/‖d‖ of the row's error d."""
    error = (decoded - attributes).abs()
    weight = error**2 / error.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return (weight * error).sum(dim=1).mean()


def slope_penalty(
    critic: Callable[[Tensor, Tensor], Tensor], real: Tensor, fake: Tensor, attributes: Tensor
) -> Tensor:
    """Mean of (‖slope‖ - 1)² of the critic at random points between (N, D) real and fake rows.

    Unweighted; the gradient penalty of WGAN-GP (Gulrajani et al., NeurIPS 2017).
    """
    between = torch.lerp(fake, real, torch.rand(len(real), 1, device=real.device))
    between.requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(between, attributes).sum(), between, create_graph=True)
    return ((slope.norm(dim=1) - 1) ** 2).mean()


def adapted_weight(weight: Tensor, penalty: Tensor) -> Tensor:
    """The penalty's next weight: times 1.1 if the penalty is above 1.05, over 1.1 if below 1.001.

    Args:
        weight: 0-dim, of the steps behind.
        penalty: 0-dim, mean unweighted :func:`slope_penalty` of those steps.
    """
    direction = (penalty > 1.05).to(weight) - (penalty < 1.001).to(weight)
    return weight * 1.1**direction
