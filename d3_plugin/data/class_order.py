"""Detects attribute rows that are in another order than the classes."""

from __future__ import annotations

import torch
from torch import Tensor

from d3_plugin.data.dataset import GZSLData
from d3_plugin.errors import warn

RIDGE = 0.03  # times the mean squared norm of the centred attributes
DOUBT = 0.01
SHARE = 0.25  # of the classes that right attributes find at least: .25, .33, .38 on three real sets


def attributes_fit(data: GZSLData) -> tuple[int, int]:
    """How many seen classes are recognised from the attributes of the others.

    Each seen class in turn is left out: a ridge regression, from the attributes of the others to
    the means of their training rows, predicts its mean. The class is recognised if no other class
    mean is nearer to that. With attributes in another order than the classes about one is.

    Returns:
        That number, and the number of seen classes.
    """
    return _own_class_found(data.attributes, data), len(data.seen_classes)


def warn_of_order(data: GZSLData) -> None:
    """Warn if attributes predict seen classes no better than in a random order.

    That is: chance explains the number of :func:`attributes_fit` (one-sided binomial test of
    1 / S, p > 0.01), and attributes that find a quarter of the classes do not (p < 0.01, which is
    the risk of a false alarm). With 16 or fewer seen classes it cannot tell, and is silent.

    Warns:
        D3Warning: with the number; it says so if transposed attributes do better.
    """
    own, count = attributes_fit(data)
    if not _no_better_than_chance(own, count):
        return
    advice = "check that row c is of class c, for example against data.class_names"
    if data.attributes.shape[0] == data.attributes.shape[1]:
        transposed = _own_class_found(data.attributes.T, data)
        if not _no_better_than_chance(transposed, count):
            advice = f"transposed they find {transposed}: pass attributes.T"
    warn(
        f"data set {data.name!r}: the attributes may be in another order than the classes. From "
        f"the attributes of the other classes, {own} of {count} seen classes are found, no more "
        f"than by chance; {advice}"
    )


def _no_better_than_chance(own: int, count: int) -> bool:
    from scipy.stats import binom

    by_chance, if_right = binom.sf(own - 1, count, 1 / count), binom.cdf(own, count, SHARE)
    return bool(by_chance > DOUBT and if_right < DOUBT)


def _own_class_found(attributes: Tensor, data: GZSLData) -> int:
    seen, labels = data.seen_classes.cpu(), data.train_labels.cpu()
    positions, count = torch.searchsorted(seen, labels), len(seen)
    features = data.train_features.cpu()
    sums = features.new_zeros(count, data.feature_dim).index_add_(0, positions, features)
    means = sums.double() / positions.bincount(minlength=count)[:, None]

    rows = attributes.cpu()[seen].double()
    rows = rows - rows.mean(dim=0)
    rows = rows / rows.square().sum(dim=1).mean().sqrt().clamp(min=1e-30)
    kernel = rows @ rows.T
    eye = torch.eye(count, dtype=torch.float64)
    # Leaving one out in closed form, from the matrix that maps means to their fit.
    hat = torch.linalg.solve(kernel + RIDGE * eye, kernel) + 1 / count
    weight = hat.diagonal()[:, None]
    predicted = (hat @ means - weight * means) / (1 - weight).clamp(min=1e-12)
    return int((torch.cdist(predicted, means).argmin(dim=1) == torch.arange(count)).sum())
