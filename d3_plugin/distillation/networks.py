"""Teacher and student: an embedding and a linear classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EmbeddingClassifier(nn.Module):
    """Linear + ReLU to an embedding, Linear to logits.

    The teacher has the seen classes as outputs, the student all classes.

    Args:
        feature_dim: D.
        embedding_dim: K.
        num_classes: number of logits.
    """

    def __init__(self, feature_dim: int, embedding_dim: int, num_classes: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.embed = nn.Sequential(nn.Linear(feature_dim, embedding_dim), nn.ReLU(inplace=True))
        self.classify = nn.Linear(embedding_dim, num_classes)

    @torch.no_grad()
    def copy_from(self, teacher: EmbeddingClassifier, classes: Tensor) -> None:
        """Copy a teacher's embedding, and its logits as those of ``classes``.

        Args:
            teacher: of the same D and K, over S classes.
            classes: (S,) the columns here for its logits; others stay unchanged.
        """
        self.embed.load_state_dict(teacher.embed.state_dict())
        self.classify.weight[classes] = teacher.classify.weight
        self.classify.bias[classes] = teacher.classify.bias

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) features -> (N, num_classes) logits and (N, K) embedding, at least 0."""
        embedding: Tensor = self.embed(features)
        logits: Tensor = self.classify(embedding)
        return logits, embedding
