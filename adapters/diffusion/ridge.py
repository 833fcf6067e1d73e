"""Ridge regression from class attributes to class means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

STRENGTHS = tuple(10 ** (i / 2) for i in range(-8, 9))


@dataclass(frozen=True, eq=False)
class AttributeRidge:
    """A fitted linear map from attributes to feature means.

    Attributes:
        weight: (A, D).
        attribute_mean: (A,), of the classes it was fitted on.
        feature_mean: (D,), mean of their class means.
        strength: the ridge strength chosen, as a multiple of the mean squared attribute norm.
        left_out: (S, D), what is predicted for each class when fitted on the other ones.
    """

    weight: Tensor
    attribute_mean: Tensor
    feature_mean: Tensor
    strength: float
    left_out: Tensor

    def __call__(self, attributes: Tensor) -> Tensor:
        """(N, A) -> (N, D)."""
        return (attributes - self.attribute_mean) @ self.weight + self.feature_mean


def fit_ridge(
    attributes: Tensor, means: Tensor, strengths: Sequence[float] = STRENGTHS
) -> AttributeRidge:
    """Fit ``means ~ attributes`` with an unpenalised intercept, every class weighing the same.

    The strength with the smallest squared error on left-out classes is taken. Leaving one class out
    needs no refit: its error is ``(y - ŷ) / (1 - h)`` with ``h`` on the diagonal of the hat matrix
    (Cook and Weisberg 1982; also ridge, as the penalty is the same without the class). Strengths
    count in mean squared norms of the centred attributes, whatever the attributes' scale.

    Args:
        attributes: (S, A) of the training classes, S >= 2.
        means: (S, D) of their training rows.
        strengths: to choose from, all above 0.

    Returns:
        The map, in the type and on the device of ``means``; the fit itself runs in float64 on the
        CPU, once.
    """
    if len(attributes) < 2:
        raise ValueError(f"ridge needs at least 2 classes, got {len(attributes)}")
    x, y = attributes.detach().cpu().double(), means.detach().cpu().double()
    x_mean, y_mean = x.mean(dim=0), y.mean(dim=0)
    centred = x - x_mean
    gram = centred @ centred.T
    unit = gram.diagonal().mean().clamp(min=1e-12)
    values, vectors = torch.linalg.eigh(gram)
    values = values.clamp(min=0)
    rotated = vectors.T @ (y - y_mean)

    def left_out(strength: float) -> Tensor:
        shrunk = values / (values + strength * unit)
        fitted = y_mean + vectors @ (shrunk[:, None] * rotated)
        leverage = 1 / len(x) + (vectors**2 @ shrunk)
        return y - (y - fitted) / (1 - leverage)[:, None]

    errors = [float(((y - left_out(s)) ** 2).mean()) for s in strengths]
    strength = strengths[errors.index(min(errors))]
    weight = centred.T @ (vectors @ (rotated / (values + strength * unit)[:, None]))
    parts = (weight, x_mean, y_mean, left_out(strength))
    weight, x_mean, y_mean, predicted = (part.to(means) for part in parts)
    return AttributeRidge(weight, x_mean, y_mean, strength, predicted)
