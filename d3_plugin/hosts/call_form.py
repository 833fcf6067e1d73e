"""How the field's scripts call their generators: noise, and attributes by place or by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from d3_plugin.errors import HostError

_WORDS = ("att", "attr", "attribute", "semantic")
CONDITION_NAMES = ("c", "cond", "condition", *_WORDS, *(f"{word}s" for word in _WORDS))
"""Parameters of a generator's ``forward`` that take the attributes."""

Synthesis = Callable[[Tensor, Tensor], Tensor]
"""``(class_ids (N,), attributes (N, A)) -> features (N, D)``."""


def generator_call(generator: nn.Module) -> Synthesis:
    """A call of this generator: ``(noise (N, Z), attributes (N, A)) -> features (N, D)``.

    The attributes are passed by keyword to the first parameter of ``forward`` named in
    :data:`CONDITION_NAMES`, without one as the second argument. Position alone is not enough for
    TF-VAEGAN's ``forward(z, a1=None, c=None, ...)``.
    """
    names = _forward_parameters(generator)
    condition = next((name for name in names if name in CONDITION_NAMES), None)
    if condition is None:
        return generator
    if names[0] == condition:
        return lambda noise, attributes: generator(attributes, noise)
    return lambda noise, attributes: generator(noise, **{condition: attributes})


def default_synthesis(generator: nn.Module, noise_dim: int | None = None) -> Synthesis:
    """The generator on standard normal noise and attributes, both in the generator's dtype.

    Args:
        generator: called as :func:`generator_call` says.
        noise_dim: Z; None for :func:`noise_width`.
    """
    call, dtype = generator_call(generator), next(generator.parameters()).dtype

    def synthesize(class_ids: Tensor, attributes: Tensor) -> Tensor:
        attributes = attributes.to(dtype)
        width = noise_dim or noise_width(generator, attributes.shape[1])
        noise = torch.randn(len(class_ids), width, dtype=dtype, device=attributes.device)
        try:
            rows = call(noise, attributes)
        except torch.cuda.OutOfMemoryError:
            raise
        except (TypeError, RuntimeError) as error:
            raise HostError(
                f"generator(noise {tuple(noise.shape)}, attributes {tuple(attributes.shape)}) "
                f"failed: {error}. For noise of another width pass attach(noise_dim=...), for "
                "another call attach(synthesize=lambda class_ids, attributes: ...)"
            ) from error
        if noise_dim is None and isinstance(rows, Tensor) and rows.shape[-1] == width:
            raise HostError(
                f"the generator's first input is {width} wide, as the features: for a VAE pass its "
                "decoder as attach(synthesize=lambda class_ids, attributes: ...); if the noise is "
                f"that wide pass noise_dim={width}"
            )
        return rows

    return synthesize


def noise_width(generator: nn.Module, attribute_dim: int) -> int:
    """Width Z of the noise: input width of the first linear layer minus that of the attributes.

    Args:
        generator: its first ``nn.Linear``, in the order they were made, takes noise and attributes
            side by side in most of the field.
        attribute_dim: A; also returned if that layer is not wider or does not exist.
    """
    first = next((m for m in generator.modules() if isinstance(m, nn.Linear)), None)
    rest = first.in_features - attribute_dim if first is not None else 0
    return rest if rest > 0 else attribute_dim


def _forward_parameters(generator: nn.Module) -> list[str]:
    """Names of the parameters in order; empty if ``forward`` has no signature."""
    while isinstance(generator, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        generator = generator.module
    try:
        parameters = inspect.signature(generator.forward).parameters.values()
    except (TypeError, ValueError):  # a scripted module
        return []
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
