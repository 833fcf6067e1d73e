"""Teacher and student: an embedding and a linear classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_STRENGTHS = [10.0**k for k in range(-8, 3)]  # of a ridge regression on rows of L1 norm 1


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

    @torch.no_grad()
    def predict_unseen(self, attributes: Tensor, seen: Tensor, unseen: Tensor) -> None:
        r"""Start the logits of unseen classes from the attributes.

        With :math:`a_c` the attributes of class c minus the mean of the seen classes, a ridge
        regression fits :math:`w_c \approx M a_c + m` to the weights of the seen classes, its
        strength chosen by leaving one of them out. An unseen class gets :math:`M a_c + m`, and the
        mean bias. Predicting classifiers from attributes: Elhoseiny, Saleh, Elgammal, ICCV 2013.

        Args:
            attributes: (C, A).
            seen, unseen: (S,) and (U,) class ids; the weights of ``seen`` are trained ones.
        """
        from sklearn.linear_model import RidgeCV  # importing it takes half a second

        around = attributes - attributes[seen].mean(dim=0)
        rows = around / around[seen].abs().sum(dim=1).mean().clamp_min(1e-12)
        weight, bias = self.classify.weight, self.classify.bias
        ridge = RidgeCV(_STRENGTHS).fit(rows[seen].cpu().numpy(), weight[seen].cpu().numpy())
        weight[unseen] = torch.from_numpy(ridge.predict(rows[unseen].cpu().numpy())).to(weight)
        bias[unseen] = bias[seen].mean()

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) features -> (N, num_classes) logits and (N, K) embedding, at least 0."""
        embedding = self.embed(features)
        return self.classify(embedding), embedding
