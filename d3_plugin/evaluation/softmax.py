"""The linear softmax classifier that the field trains on features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPOCHS, STEPS, BATCH = 25, 500, 200
LENGTH = 100.0  # L1 norm of a row, about that of CUB's features in [0, 1]


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
    classifier = nn.Linear(features.shape[1], num_classes).to(features)
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


class DefaultClassifier(nn.Sequential):
    """Logits of :func:`train_default`; of a type of its own, so that it can be named."""


def train_default(features: Tensor, labels: Tensor, num_classes: int) -> DefaultClassifier:
    """The default final classifier: :func:`train_softmax` for features of any scale and number.

    Adam moves every weight by about its learning rate, so what a step does to the logits grows with
    the rows' L1 norm. Rows are therefore centred and brought to a mean norm of ``LENGTH``; the
    weights then take both back. Few rows get more epochs, for ``STEPS`` steps at least.
    docs/performance.md compares it with logistic regression.

    Args:
        features: (N, D) float.
        labels: (N,) int64 in 0..num_classes-1.
        num_classes: width of the logits.
    """
    center = features.mean(dim=0)
    rows = features - center
    factor = LENGTH / rows.abs().sum(dim=1).mean().clamp_min(1e-12)
    epochs = max(EPOCHS, -(-STEPS // -(-len(labels) // BATCH)))
    rows *= factor
    classifier = train_softmax(rows, labels, num_classes, epochs=epochs, batch_size=BATCH)
    classifier.weight *= factor
    classifier.bias.sub_(classifier.weight @ center)
    return DefaultClassifier(classifier)
