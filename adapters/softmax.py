"""The linear softmax classifier that the field trains on features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def train_softmax(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    epochs: int,
    lr: float = 1e-3,
    batch_size: int = 100,
) -> nn.Linear:
    """Train a linear softmax classifier with Adam (beta1 0.5), as Xian et al. (CVPR 2018) do.

    Args:
        features: (N, D) float.
        labels: (N,) int64 in 0..num_classes-1.
        num_classes: width of the logits.
        epochs, lr, batch_size: of Adam.

    Returns:
        The frozen classifier: (N, D) -> (N, num_classes) logits.
    """
    classifier = nn.Linear(features.shape[1], num_classes).to(features.device)
    nn.init.normal_(classifier.weight, 0.0, 0.02)
    nn.init.zeros_(classifier.bias)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=lr, betas=(0.5, 0.999), fused=True)
    with torch.enable_grad():
        for _ in range(epochs):
            for index in torch.randperm(len(labels), device=features.device).split(batch_size):
                optimizer.zero_grad()
                F.cross_entropy(classifier(features[index]), labels[index]).backward()
                optimizer.step()
    return classifier.requires_grad_(False)
