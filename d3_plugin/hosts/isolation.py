"""Keeps D³'s own work from leaving traces in the host: random streams, buffers, modes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from d3_plugin.distributed import process_rank


class RandomStream:
    """A random stream of its own for PyTorch (CPU and one device), NumPy and ``random``.

    Inside ``with stream:`` everything draws from it; outside, the global streams go on as if
    nothing had happened.

    Args:
        seed: where the stream starts. The stream differs from the one that ``manual_seed(seed)``
            starts: a host seeded with the same number must not share D³'s random numbers.
        device: the device whose generator is covered beside the CPU's.
        purpose: streams of one seed that must differ get different names.
    """

    def __init__(self, seed: int, device: torch.device, purpose: str = "") -> None:
        self._cuda = device if device.type == "cuda" else None
        self._own: dict[str, Any] = {}
        outside = self._read()
        entropy = [seed, *f"d3_plugin {purpose}".encode()]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        torch.default_generator.manual_seed(seed)
        if self._cuda is not None:
            with torch.cuda.device(self._cuda):
                torch.cuda.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - hosts draw from the global stream
        random.seed(seed)
        self._own = self._read()
        self._write(outside)
        self._outside: dict[str, Any] | None = None

    def _read(self) -> dict[str, Any]:
        state = {
            "cpu": torch.get_rng_state(),
            "numpy": np.random.get_state(),  # noqa: NPY002
            "python": random.getstate(),
        }
        if self._cuda is not None:
            state["cuda"] = torch.cuda.get_rng_state(self._cuda)
        return state

    def _write(self, state: dict[str, Any]) -> None:
        torch.set_rng_state(state["cpu"])
        np.random.set_state(state["numpy"])  # noqa: NPY002
        random.setstate(state["python"])
        if self._cuda is not None:
            torch.cuda.set_rng_state(state["cuda"], self._cuda)

    def __enter__(self) -> None:
        self._outside = self._read()
        try:
            self._write(self._own)
        except BaseException:
            self._write(self._outside)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._own = self._read()
        if self._outside is not None:
            self._write(self._outside)
            self._outside = None

    @classmethod
    def of_globals(cls, device: torch.device) -> RandomStream:
        """A stream that stands where the global ones stand now."""
        stream = cls(0, device)
        stream._own = stream._read()
        return stream

    def make_global(self) -> None:
        """The global streams go on from where this one stands."""
        self._write(self._own)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands, in types that ``torch.load(weights_only=True)`` reads."""
        kind, keys, *rest = self._own["numpy"]
        return {**self._own, "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        kind, keys, *rest = state["numpy"]
        own = {**state, "numpy": (kind, keys.cpu().numpy().astype(np.uint32), *rest)}
        # torch.load(map_location=...) may have moved them; generators take CPU byte tensors only.
        own = {k: v.cpu() if isinstance(v, Tensor) else v for k, v in own.items()}
        if self._cuda is not None and "cuda" not in own:  # saved in a run on the CPU
            own["cuda"] = self._own["cuda"]
        self._own = own


def stream_of_rank(seed: int, device: torch.device, steps: int = 0) -> RandomStream:
    """The training stream of this process; rank 0 has that of a single process.

    Args:
        seed, device: as in :class:`RandomStream`.
        steps: where training continues, if this process's own stream was not saved.
    """
    rank = process_rank()
    return RandomStream(seed, device, f"training {rank} {steps}" if rank or steps else "training")


@contextmanager
def buffers_kept(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Put buffers (batch-norm statistics, spectral-norm vectors) back as they were."""
    kept = [(b, b.detach().clone()) for module in modules for b in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in kept:
            # .data: no version bump, so graphs that saved the buffer still run backward.
            buffer.data.copy_(value)


@contextmanager
def eval_mode(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Every submodule in eval mode, and afterwards each in the mode it had."""
    modes = [(m, m.training) for module in modules for m in module.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, training in modes:
            module.training = training
