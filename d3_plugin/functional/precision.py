"""At least float32 for sums and logarithms, whatever the host's precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

_AS_IT_IS: AbstractContextManager[object] = nullcontext()


def full_precision(*tensors: Tensor) -> tuple[Tensor, ...]:
    """All tensors in their common dtype, at least float32."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple([tensor.to(dtype) for tensor in tensors])


def autocast_off(like: Tensor) -> AbstractContextManager[object]:
    """A context in which autocast does not lower the precision of sums and logarithms."""
    device = like.device.type
    # Creating the context costs as much as a small operation.
    if device != "meta" and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return _AS_IT_IS
