"""Sums and logarithms in float32 at least, whatever the host's precision is."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(*tensors: Tensor) -> tuple[Tensor, ...]:
    """All tensors in their common dtype, which is float32 at least."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(tensor.to(dtype) for tensor in tensors)


def autocast_off(like: Tensor) -> AbstractContextManager[None]:
    """A context in which autocast does not lower the precision of sums and logarithms."""
    if like.is_meta:  # has no autocast to turn off
        return nullcontext()
    return torch.autocast(device_type=like.device.type, enabled=False)
