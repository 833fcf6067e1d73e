"""How the field's scripts call their generators: noise, and attributes by place or by name."""

from __future__ import annotations

import inspect

from torch import Tensor, nn

CONDITION_NAMES = (
    "c",
    "att",
    "atts",
    "attr",
    "attrs",
    "attribute",
    "attributes",
    "cond",
    "condition",
    "semantic",
    "semantics",
)
"""Parameters of a generator's ``forward`` that take the attributes."""


def call_generator(generator: nn.Module, noise: Tensor, attributes: Tensor) -> Tensor:
    """Features (N, D) for noise (N, Z) and attributes (N, A).

    The attributes go by keyword to the first parameter of ``forward`` that has one of
    :data:`CONDITION_NAMES`; without one they are the second argument. TF-VAEGAN's ``forward(z,
    a1=None, c=None, ...)`` is why a place alone will not do.
    """
    names = _forward_parameters(generator)
    condition = next((name for name in names if name in CONDITION_NAMES), None)
    features: Tensor
    if condition is None:
        features = generator(noise, attributes)
    elif names[0] == condition:
        features = generator(attributes, noise)
    else:
        features = generator(noise, **{condition: attributes})
    return features


def noise_width(generator: nn.Module, attribute_dim: int) -> int:
    """Width Z of the noise: what the first linear layer takes beside the attributes.

    Args:
        generator: its first ``nn.Linear``, in the order they were made, takes noise and attributes
            side by side in most of the field.
        attribute_dim: A; also the answer where that layer is no wider, or there is none.
    """
    first = next((m for m in generator.modules() if isinstance(m, nn.Linear)), None)
    beside = first.in_features - attribute_dim if first is not None else 0
    return beside if beside > 0 else attribute_dim


def _forward_parameters(generator: nn.Module) -> list[str]:
    """Names that a call can use, in order; empty where ``forward`` does not say."""
    while isinstance(generator, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        generator = generator.module
    try:
        parameters = inspect.signature(generator.forward).parameters.values()
    except (TypeError, ValueError):  # a scripted module
        return []
    usable = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters if p.kind in usable]
