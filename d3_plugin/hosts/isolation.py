"""What D³ borrows from its surroundings and gives back: random streams and PyTorch's modes."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

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
        self._torch = {
            kind: torch.Generator(generator.device).manual_seed(seed).get_state()
            for kind, generator in _generators(device).items()
        }
        self._python = random.Random(seed).getstate()
        legacy: Any = np.random.RandomState(seed).get_state(legacy=False)
        self._numpy = _bit_generator(legacy)  # the one in use: reading its state takes 80 µs
        self._begun = self._now()

    def _now(self) -> tuple[dict[str, Tensor], dict[str, Any], Any]:
        """Where the streams of PyTorch, NumPy and Python are."""
        return self._torch, self._numpy.state, self._python

    @contextmanager
    def drawing(self, *, again: bool = False) -> Iterator[None]:
        """In the block everything draws from this stream.

        Args:
            again: from where the last block began; the stream itself does not go on.
        """
        with _one_at_a_time, _global_streams_kept(self._device):
            if not again:
                self._begun = self._now()
            of_torch, of_numpy, of_python = self._begun
            for kind, generator in _generators(self._device).items():
                generator.set_state(of_torch[kind])
            _numpy_random.set_bit_generator(_bit_generator(of_numpy) if again else self._numpy)
            random.setstate(of_python)
            yield
            if not again:
                self._torch, self._python = _torch_states(self._device), random.getstate()

    def __enter__(self) -> None:
        self._block: AbstractContextManager[None] = self.drawing()
        self._block.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._block.__exit__(*error)
        del self._block
        self._begun = self._now()

    def state_dict(self) -> dict[str, Any]:
        """The state of the stream, in types that ``torch.load(weights_only=True)`` reads."""
        return {**self._torch, "numpy": _without_arrays(self._numpy.state), "python": self._python}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        # torch.load(map_location=...) may have moved them; generators take CPU byte tensors only.
        # A run on a GPU may continue one on the CPU.
        self._torch |= {kind: state[kind].cpu() for kind in self._torch.keys() & state.keys()}
        self._numpy.state = state["numpy"]
        self._python = state["python"]
        self._begun = self._now()


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
    numpy = _without_arrays(np.random.get_state(legacy=False))  # noqa: NPY002
    return {**_torch_states(device), "numpy": numpy, "python": random.getstate()}


def set_global_streams(states: dict[str, Any], device: torch.device) -> None:
    """Continue from :func:`global_streams`."""
    for name, generator in _generators(device).items():
        if name in states:  # a run on a GPU may continue one on the CPU
            generator.set_state(states[name].cpu())
    if _numpy_random.get_bit_generator().state["bit_generator"] != states["numpy"]["bit_generator"]:
        _numpy_random.set_bit_generator(_bit_generator(states["numpy"]))
    np.random.set_state(states["numpy"])  # noqa: NPY002
    random.setstate(states["python"])


@contextmanager
def _global_streams_kept(device: torch.device) -> Iterator[None]:
    generators = _generators(device)
    states = _torch_states(device)
    bits = _numpy_random.get_bit_generator()
    numpy: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    python = random.getstate()
    try:
        yield
    finally:
        for kind, generator in generators.items():
            generator.set_state(states[kind])
        _numpy_random.set_bit_generator(bits)
        if numpy["has_gauss"]:  # a second normal number is waiting, which the line above drops
            np.random.set_state(numpy)  # noqa: NPY002
        random.setstate(python)


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


def _bit_generator(state: dict[str, Any]) -> Any:
    """A new NumPy bit generator with this state, whose name may come from a file."""
    made = getattr(np.random, _KINDS[_KINDS.index(state["bit_generator"])])()
    made.state = state
    return made


def _without_arrays(state: Any) -> Any:
    """NumPy's state with lists and plain numbers in the place of arrays."""
    if isinstance(state, dict):
        return {name: _without_arrays(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, (np.ndarray, np.generic)) else state
