"""What may surround a call of D³ and must change none of its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def bit_generator(made: Any) -> Iterator[None]:
    """NumPy's global stream has this generator; with a second normal number waiting."""
    own = np.random.get_bit_generator()
    np.random.set_bit_generator(made)
    np.random.randn()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_bit_generator(own)


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "anomaly mode": torch.autograd.detect_anomaly,
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "device context": lambda: torch.device("meta"),
    "default device": lambda: default_device("meta"),
    "deterministic": deterministic,
    "saved tensors": lambda: torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t),
    "NumPy errors": lambda: np.errstate(all="raise"),
    "PCG64": lambda: bit_generator(np.random.PCG64(1)),
    "Philox": lambda: bit_generator(np.random.Philox(1)),
    "SFC64": lambda: bit_generator(np.random.SFC64(1)),
}


@contextmanager
def together(*names: str) -> Iterator[None]:
    """Several of them at once."""
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(SURROUNDINGS[name]())
        yield
