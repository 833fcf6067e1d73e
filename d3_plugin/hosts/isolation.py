"""Keeps D³'s own work from leaving traces in the host: random streams, module state, modes.

What has to be put back is collected beforehand and put back by one call into C (:func:`together`),
made in a ``finally`` of the function that does the work: Python looks for a KeyboardInterrupt only
between calls, so none can split it or get in before it.
"""

from __future__ import annotations

import pickle
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from d3_plugin.distributed import process_rank
from d3_plugin.errors import HostError

Undo = Callable[[], object]

_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_PLAIN = vars(nn.Module()).keys()  # the attributes that every module has

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
        entropy = [seed, *f"d3_plugin {purpose}".encode()]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        self._generators = _generators(device)
        self._own = {
            kind: torch.Generator(generator.device).manual_seed(seed).get_state()
            for kind, generator in self._generators.items()
        }
        self._python = random.Random(seed).getstate()
        legacy: Any = np.random.RandomState(seed).get_state(legacy=False)
        self._numpy = np.random.MT19937()
        self._numpy.state = legacy
        self._begun = self._now()

    def _now(self) -> tuple[dict[str, Tensor], Any, Any]:
        return self._own, self._numpy.state, self._python

    def outside(self) -> Undo:
        """What puts the global streams back to where they stand now."""
        calls: list[Undo] = []
        calls += [partial(g.set_state, g.get_state()) for g in self._generators.values()]
        numpy: Any = np.random.get_state()  # noqa: NPY002
        calls.append(partial(_numpy_random.set_bit_generator, _numpy_random.get_bit_generator()))
        if numpy[3]:  # a second normal number is waiting, which changing the generator drops
            calls.append(partial(np.random.set_state, numpy))
        _, internal, gauss = random.getstate()  # random.setstate itself is Python, not C
        calls.append(partial(_PYTHON_SETSTATE, internal))
        calls.append(partial(setattr, _PYTHON, "gauss_next", gauss))
        return together(calls)

    def begin(self, *, again: bool = False) -> None:
        """The global streams go on from where this one stands.

        Args:
            again: from where they went on the last time; no ``end()`` must follow then.
        """
        numpy = self._numpy
        if again:
            own, state, python = self._begun
            numpy = np.random.MT19937()
            numpy.state = state
        else:
            own, _, python = self._begun = self._now()
        for kind, generator in self._generators.items():
            generator.set_state(own[kind])
        _numpy_random.set_bit_generator(numpy)
        random.setstate(python)

    def end(self) -> None:
        """This stream goes on from where the global ones stand."""
        self._own = {kind: generator.get_state() for kind, generator in self._generators.items()}
        self._python = random.getstate()

    def __enter__(self) -> None:
        self._undo = self.outside()
        self.begin()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()
        self._begun = self._now()
        self._undo()

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands, in types that ``torch.load(weights_only=True)`` reads."""
        state = self._numpy.state["state"]
        keys = torch.from_numpy(state["key"].astype(np.int64))
        return {**self._own, "numpy": (keys, int(state["pos"])), "python": self._python}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        # torch.load(map_location=...) may have moved them; generators take CPU byte tensors only.
        for kind in self._own:
            if kind in state:  # a run on a GPU may go on from one on the CPU
                self._own[kind] = state[kind].cpu()
        keys, pos = state["numpy"]
        numbers: Any = {"key": keys.cpu().numpy().astype(np.uint32), "pos": pos}
        self._numpy.state = {"bit_generator": "MT19937", "state": numbers}
        self._python = state["python"]
        self._begun = self._now()


def global_streams(device: torch.device) -> dict[str, Any]:
    """The state of the global random streams, in types that ``torch.load`` reads safely."""
    numpy: Any = np.random.get_state()  # noqa: NPY002
    kind, keys, *rest = numpy
    own = {kind: generator.get_state() for kind, generator in _generators(device).items()}
    numbers = (kind, torch.from_numpy(keys.astype(np.int64)), *rest)
    return {**own, "numpy": numbers, "python": random.getstate()}


def set_global_streams(states: dict[str, Any], device: torch.device) -> None:
    """Go on from :func:`global_streams`."""
    kind, keys, *rest = states["numpy"]
    for name, generator in _generators(device).items():
        if name in states:  # a run on a GPU may go on from one on the CPU
            generator.set_state(states[name].cpu())
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), *rest))  # noqa: NPY002
    random.setstate(states["python"])


def stream_of_rank(seed: int, device: torch.device, steps: int = 0) -> RandomStream:
    """The training stream of this process; rank 0 has that of a single process.

    Args:
        seed, device: as in :class:`RandomStream`.
        steps: where training continues, if this process's own stream was not saved.
    """
    rank = process_rank()
    return RandomStream(seed, device, f"training {rank} {steps}" if rank or steps else "training")


class ModuleState:
    """Everything that a forward pass may change in modules, to be put back.

    These are buffers (batch-norm statistics, spectral-norm vectors), also new and re-bound ones;
    parameters that are not trained, such as averages; plain attributes, such as counters; and
    random generators of their own. What is changed in place inside a list, dict or other object
    is not covered, see :func:`uncovered`.

    Attributes:
        undo: puts it back, except for attributes that were added.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        calls: list[Undo] = []
        self._saved: list[tuple[dict[str, Any], dict[str, Any]]] = []
        for part in [part for module in modules for part in module.modules()]:
            if isinstance(part, torch.jit.ScriptModule):  # has no dicts of its own
                values: list[Any] = [*part.buffers(recurse=False)]
            else:
                self._saved += [(own, dict(own)) for own in (part._buffers, vars(part))]
                added = [value for name, value in vars(part).items() if name not in _PLAIN]
                values = [*part._buffers.values(), *added]
                values += part._parameters.values()
            for value in values:
                if isinstance(value, Tensor) and not value.requires_grad:
                    # .data: no version bump, so graphs that saved the buffer still run backward.
                    calls.append(partial(value.data.copy_, value.detach().clone()))
                elif isinstance(value, torch.Generator):
                    calls.append(partial(value.set_state, value.get_state()))
                elif isinstance(value, np.random.Generator):
                    bits = value.bit_generator
                    calls.append(partial(setattr, bits, "state", bits.state))
                elif isinstance(value, np.random.RandomState):
                    calls.append(partial(value.set_state, value.get_state()))
                elif isinstance(value, random.Random):
                    calls.append(partial(value.setstate, value.getstate()))
        self.undo = together([*[partial(own.update, was) for own, was in self._saved], *calls])

    def drop_added(self) -> None:
        """Remove the attributes and buffers that were not there before."""
        for own, was in self._saved:
            for name in own.keys() - was.keys():
                del own[name]


def uncovered(modules: Iterable[nn.Module]) -> dict[str, bytes]:
    """Contents of the attributes that :class:`ModuleState` does not put back, by name."""
    found = {}
    for part in (part for module in modules for part in module.modules()):
        for name, value in vars(part).items():
            plain = isinstance(value, (nn.Module, Tensor, *_GENERATORS))
            compiler = type(part).__module__.startswith("torch._dynamo")  # what it has compiled
            if name in _PLAIN or plain or compiler:
                continue
            try:
                found[f"{type(part).__name__}.{name}"] = pickle.dumps(value)
            except Exception:  # what cannot be pickled cannot be compared
                continue
    return found


@contextmanager
def state_kept(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Put back what a forward pass changes, see :class:`ModuleState`."""
    state = ModuleState(modules)
    try:
        yield
    finally:
        state.undo()
        state.drop_added()


@contextmanager
def weights_from(module: nn.Module, other: nn.Module | None) -> Iterator[None]:
    """``module`` with the parameters and buffers of ``other``, a copy of it; None: its own.

    Raises:
        HostError: they have other layers.
    """
    if isinstance(other, (AveragedModel, nn.DataParallel, DistributedDataParallel)):
        other = other.module
    own, given = ([*net.parameters(), *net.buffers()] for net in (module, other or module))
    if [tensor.shape for tensor in own] != [tensor.shape for tensor in given]:
        raise HostError("evaluate(generator=...) takes a generator with the same layers")
    undo = together([partial(tensor.data.copy_, tensor.detach().clone()) for tensor in own])
    try:
        for tensor, value in zip(own, given, strict=True):
            tensor.data.copy_(value)
        yield
    finally:
        undo()


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
