"""Separate random streams for D³, which leave the host's unchanged.

What must be restored is saved first and restored by one call into C (:func:`together`), in a
``finally`` of the function that does the work: Python looks for a KeyboardInterrupt only between
calls, so none can come before this call or split it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d3_plugin.distributed import process_rank

Undo = Callable[[], object]


_numpy_random: Any = np.random  # its type stubs lack set_bit_generator
_PYTHON: Any = random.seed.__self__  # type: ignore[attr-defined]  # the global stream
_PYTHON_SETSTATE: Any = super(random.Random, _PYTHON).setstate


def together(calls: Iterable[Undo]) -> Undo:
    """All calls, which must be partials of C functions, as one; a second call does nothing."""
    call: Any = partial.__call__
    return partial(deque, map(call, calls), 0)


def _generators(device: torch.device) -> dict[str, torch.Generator]:
    """PyTorch's global random generators: the CPU's and, by its kind, that of a GPU."""
    generators = {"cpu": torch.default_generator}
    if device.type == "cuda":
        torch.cuda.init()
        index = torch.cuda.current_device() if device.index is None else device.index
        generators["cuda"] = torch.cuda.default_generators[index]
    elif device.type == "mps":
        generators["mps"] = torch.mps._get_default_mps_generator()
    return generators


def _torch_states(device: torch.device) -> dict[str, Tensor]:
    return {kind: generator.get_state() for kind, generator in _generators(device).items()}


@contextmanager
def plain_pytorch() -> Iterator[None]:
    """PyTorch's defaults: gradients on, float32, no autocast, inference mode or anomaly mode.

    At the door of what is called once (``attach``, ``evaluate``, ...), whose numbers must not
    depend on the caller's surroundings.
    """
    dtype = torch.get_default_dtype()
    with ExitStack() as stack:
        for kind in ("cpu", "cuda", "mps"):
            if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.is_anomaly_enabled():
            stack.enter_context(torch.autograd.set_detect_anomaly(False))
        if torch.get_default_device().type != "cpu":  # a mode, which slows every call
            stack.enter_context(torch.device("cpu"))
        stack.callback(torch.set_default_dtype, dtype)
        torch.set_default_dtype(torch.float32)
        yield


class RandomStream:
    """A separate random stream for PyTorch (CPU and one device), NumPy and ``random``.

    Inside ``with stream:`` everything draws from it; afterwards the global streams continue as if
    nothing had happened.

    Args:
        seed: where the stream starts. The stream differs from the one that ``manual_seed(seed)``
            starts: a host seeded with the same number must not share D³'s random numbers.
        device: its generator is covered in addition to the CPU's.
        purpose: streams of one seed that must differ get different names.
    """

    def __init__(self, seed: int, device: torch.device, purpose: str = "") -> None:
        entropy = [seed, *f"d3_plugin {purpose}".encode()]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        self._device = device
        self._own = {
            kind: torch.Generator(generator.device).manual_seed(seed).get_state()
            for kind, generator in _generators(device).items()
        }
        self._python = random.Random(seed).getstate()
        legacy: Any = np.random.RandomState(seed).get_state(legacy=False)
        self._numpy = np.random.MT19937()
        self._numpy.state = legacy
        self._begun = self._now()

    def _now(self) -> tuple[dict[str, Tensor], Any, Any]:
        return self._own, self._numpy.state, self._python

    def outside(self) -> Undo:
        """A call that restores the global streams to their present state."""
        generators = _generators(self._device).values()
        calls: list[Undo] = [partial(g.set_state, g.get_state()) for g in generators]
        numpy: Any = np.random.get_state()  # noqa: NPY002
        calls.append(partial(_numpy_random.set_bit_generator, _numpy_random.get_bit_generator()))
        if numpy[3]:  # a second normal number is waiting, which changing the generator drops
            calls.append(partial(np.random.set_state, numpy))
        _, internal, gauss = random.getstate()  # random.setstate itself is Python, not C
        calls.append(partial(_PYTHON_SETSTATE, internal))
        calls.append(partial(setattr, _PYTHON, "gauss_next", gauss))
        return together(calls)

    def begin(self, *, again: bool = False) -> None:
        """Continue the global streams from this one's state.

        Args:
            again: from its state at the last ``begin()`` instead; do not call ``end()`` then.
        """
        numpy = self._numpy
        if again:
            own, state, python = self._begun
            numpy = np.random.MT19937()
            numpy.state = state
        else:
            own, _, python = self._begun = self._now()
        for kind, generator in _generators(self._device).items():
            generator.set_state(own[kind])
        _numpy_random.set_bit_generator(numpy)
        random.setstate(python)

    def end(self) -> None:
        """Continue this stream from the state of the global ones."""
        self._own = _torch_states(self._device)
        self._python = random.getstate()

    def __enter__(self) -> None:
        self._undo = self.outside()
        self.begin()

    def __exit__(self, *_: object) -> None:
        self.end()
        self._begun = self._now()
        self._undo()

    def state_dict(self) -> dict[str, Any]:
        """The state of the stream, in types that ``torch.load(weights_only=True)`` reads."""
        state = self._numpy.state["state"]
        numpy = state["key"].tolist(), int(state["pos"])
        return {**self._own, "numpy": numpy, "python": self._python}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        # torch.load(map_location=...) may have moved them; generators take CPU byte tensors only.
        # A run on a GPU may continue one on the CPU.
        self._own |= {kind: state[kind].cpu() for kind in self._own.keys() & state.keys()}
        keys, pos = state["numpy"]
        self._numpy.state = {"bit_generator": "MT19937", "state": {"key": keys, "pos": pos}}
        self._python = state["python"]
        self._begun = self._now()


def global_streams(device: torch.device) -> dict[str, Any]:
    """The state of the global random streams, in types that ``torch.load`` reads safely."""
    numpy: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    numpy["state"]["key"] = numpy["state"]["key"].tolist()
    return {**_torch_states(device), "numpy": numpy, "python": random.getstate()}


def set_global_streams(states: dict[str, Any], device: torch.device) -> None:
    """Continue from :func:`global_streams`."""
    for name, generator in _generators(device).items():
        if name in states:  # a run on a GPU may continue one on the CPU
            generator.set_state(states[name].cpu())
    np.random.set_state(states["numpy"])  # noqa: NPY002
    random.setstate(states["python"])


def stream_of_rank(seed: int, device: torch.device, steps: int = 0) -> RandomStream:
    """The training stream of this process; rank 0 has that of a single process.

    Args:
        seed, device: as in :class:`RandomStream`.
        steps: where training continues, if this process's own stream was not saved.
    """
    rank = process_rank()
    return RandomStream(seed, device, f"training {rank} {steps}" if rank or steps else "training")
