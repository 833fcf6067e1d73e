"""The extra loss term: an unseen class is, on average, like seen classes of similar attributes."""

from __future__ import annotations

import functools

import torch.nn.functional as F
from torch import Tensor

from d3_plugin.data import GZSLData


@functools.lru_cache(maxsize=1)  # the same in every step of a training
def anchors(data: GZSLData, temperature: float) -> Tensor:
    """Seen class means, weighted by the similarity of attributes: (C, D), one anchor per class.

    ``t_c = sum_s softmax_s(cos(a_c, a_s) / temperature) mean_s`` over the seen classes ``s``.
    """
    seen = data.seen_classes
    one_hot = F.one_hot(data.train_labels, data.num_classes)[:, seen].to(data.train_features)
    means = one_hot.T @ data.train_features / one_hot.sum(dim=0)[:, None]
    attributes = F.normalize(data.attributes)
    return (attributes @ attributes[seen].T / temperature).softmax(dim=1) @ means


def anchor_loss(features: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Mean squared distance between the mean row of each class in a batch and its target.

    Args:
        features: (N, D) synthetic rows.
        labels: (N,) class ids.
        targets: (C, D), one row per class.

    Returns:
        0-dim tensor, with gradient to ``features``.
    """
    classes, positions = labels.unique(return_inverse=True)
    one_hot = F.one_hot(positions, len(classes)).to(features)
    means = one_hot.T @ features / one_hot.sum(dim=0)[:, None]
    return F.mse_loss(means, targets[classes])
