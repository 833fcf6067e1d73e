"""What D³ borrows from its surroundings and gives back: random streams and PyTorch's modes."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from d3_plugin.distributed import process_rank

# Random streams and default dtype belong to the process: two threads would mix them.
_one_at_a_time = threading.RLock()

_numpy_random: Any = np.random  # its type stubs lack get_bit_generator and set_bit_generator
_KINDS = "MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"  # of NumPy's bit generators


@contextmanager
def plain_pytorch(generator: nn.Module | None = None) -> Iterator[None]:
    """PyTorch's defaults: gradients on, float32, the CPU, no autocast, inference or anomaly mode.

    At the door of what is called once (``attach``, ``evaluate``, ...), whose numbers must not
    depend on the caller's surroundings.

    Args:
        generator: of the host whose functions are called. A default dtype or device that is the
            generator's own is how this host works, and stays.
    """
    own = next(generator.parameters()) if generator is not None else None
    with _one_at_a_time, ExitStack() as stack:
        for kind in ("cpu", "cuda", "mps", "xpu"):
            if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.is_anomaly_enabled():
            stack.enter_context(torch.autograd.set_detect_anomaly(False))
        device = torch.get_default_device()
        if device.type not in ("cpu", own.device.type if own is not None else "cpu"):
            stack.enter_context(torch.device("cpu"))  # only then: it slows every call
        dtype = torch.get_default_dtype()
        if dtype not in (torch.float32, own.dtype if own is not None else torch.float32):
            stack.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        yield


class RandomStream:
    """A separate random stream for PyTorch (CPU and one device), NumPy and ``random``.

    Inside ``with stream:`` everything draws from it; afterwards the global streams continue as if
    nothing had happened. Another thread that wants a stream waits meanwhile.

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
        numpy: Any = np.random.RandomState(seed).get_state(legacy=False)
        torch_generators = {
            kind: torch.Generator(generator.device).manual_seed(seed)
            for kind, generator in _generators(device).items()
        }
        self._now: dict[str, Any] = {
            **{kind: generator.get_state() for kind, generator in torch_generators.items()},
            "numpy": numpy,
            "python": random.Random(seed).getstate(),
        }
        self._begun = self._now

    @contextmanager
    def drawing(self, *, again: bool = False) -> Iterator[None]:
        """In the block everything draws from this stream.

        Args:
            again: from where the last block began; the stream itself does not go on.
        """
        with _one_at_a_time:
            outside, numpys = _streams(self._device), _numpy_random.get_bit_generator()
            start = self._begun if again else self._now
            try:
                set_global_streams(start, self._device)
                yield
                if not again:
                    self._begun, self._now = start, _streams(self._device)
            finally:
                _numpy_random.set_bit_generator(numpys)
                set_global_streams(outside, self._device)

    def __enter__(self) -> None:
        self._block: AbstractContextManager[None] = self.drawing()
        self._block.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._block.__exit__(*error)
        del self._block
        self._begun = self._now

    def state_dict(self) -> dict[str, Any]:
        """The state of the stream, in types that ``torch.load(weights_only=True)`` reads."""
        state: dict[str, Any] = _without_arrays(self._now)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        # A run on a GPU may continue one on the CPU; the other streams must be there.
        saved = {*state, "cpu", "numpy", "python"} & self._now.keys()
        self._now = self._begun = {**self._now, **{name: state[name] for name in saved}}


def stream_of_rank(seed: int, device: torch.device, steps: int = 0) -> RandomStream:
    """The training stream of this process; rank 0 has that of a single process.

    Args:
        seed, device: as in :class:`RandomStream`.
        steps: where training continues, if this process's own stream was not saved.
    """
    rank = process_rank()
    return RandomStream(seed, device, f"training {rank} {steps}" if rank or steps else "training")


def global_streams(device: torch.device) -> dict[str, Any]:
    """The state of the global random streams, in types that ``torch.load`` reads safely."""
    states: dict[str, Any] = _without_arrays(_streams(device))
    return states


def _streams(device: torch.device) -> dict[str, Any]:
    of_torch = {kind: generator.get_state() for kind, generator in _generators(device).items()}
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002
    return {**of_torch, "numpy": numpy, "python": random.getstate()}


def set_global_streams(states: dict[str, Any], device: torch.device) -> None:
    """Continue from :func:`global_streams`."""
    for name, generator in _generators(device).items():
        if name in states:  # a run on a GPU may continue one on the CPU
            generator.set_state(states[name].cpu())  # where torch.load(map_location=) may put it
    kind = type(_numpy_random.get_bit_generator()).__name__
    if kind != states["numpy"]["bit_generator"]:
        _numpy_random.set_bit_generator(_bit_generator(states["numpy"]))
    np.random.set_state(states["numpy"])  # noqa: NPY002
    random.setstate(states["python"])


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


def _bit_generator(state: dict[str, Any]) -> Any:
    """A new NumPy bit generator with this state, whose name may come from a file."""
    made = getattr(np.random, _KINDS[_KINDS.index(state["bit_generator"])])()
    made.state = state
    return made


def _without_arrays(state: Any) -> Any:
    """The states with lists and plain numbers in the place of NumPy's arrays."""
    if isinstance(state, dict):
        return {name: _without_arrays(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, (np.ndarray, np.generic)) else state
