"""Saves and restores what a forward pass changes in the host's modules."""

from __future__ import annotations

import pickle
import random
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from d3_plugin.errors import HostError
from d3_plugin.hosts.isolation import Undo, together

_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_PLAIN = vars(nn.Module()).keys()  # the attributes that every module has


class ModuleState:
    """Everything that a forward pass may change in modules, to be restored.

    These are buffers (batch-norm statistics, spectral-norm vectors), also new and re-bound ones;
    layers and parameters that are made in a forward pass; parameters that are not trained, such as
    averages; modes and other plain attributes, such as counters; NumPy arrays; and random
    generators held as attributes. Changes inside a list, dict or other object are not covered, see
    :func:`uncovered`.

    As a context manager it restores everything after the block.

    Attributes:
        undo: restores it, except for attributes that were added.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        calls: list[Undo] = []
        self._saved: list[tuple[dict[str, Any], dict[str, Any]]] = []
        for part in [part for module in modules for part in module.modules()]:
            if isinstance(part, torch.jit.ScriptModule):  # without Python dicts
                values: list[Any] = [*part.buffers(recurse=False)]
            else:
                parts = (part._buffers, part._parameters, part._modules, vars(part))
                self._saved += [(own, dict(own)) for own in parts]
                added = [value for name, value in vars(part).items() if name not in _PLAIN]
                values = [*part._buffers.values(), *part._parameters.values(), *added]
            for value in values:
                if isinstance(value, Tensor) and not value.requires_grad:
                    # .data: no version bump, so graphs that saved the buffer still run backward.
                    calls.append(partial(value.data.copy_, value.detach().clone()))
                elif isinstance(value, np.ndarray):
                    calls.append(partial(value.__setitem__, ..., value.copy()))
                elif isinstance(value, (torch.Generator, np.random.RandomState)):
                    restore: Any = value.set_state
                    calls.append(partial(restore, value.get_state()))
                elif isinstance(value, np.random.Generator):
                    bits = value.bit_generator
                    calls.append(partial(setattr, bits, "state", bits.state))
                elif isinstance(value, random.Random):
                    calls.append(partial(value.setstate, value.getstate()))
        self.undo = together([*[partial(own.update, was) for own, was in self._saved], *calls])

    def drop_added(self) -> None:
        """Remove the attributes, buffers and layers that were not there before."""
        for own, was in self._saved:
            for name in own.keys() - was.keys():
                del own[name]

    def __enter__(self) -> None:
        """Everything is saved already."""

    def __exit__(self, *_: object) -> None:
        self.undo()
        self.drop_added()


def uncovered(modules: Iterable[nn.Module]) -> dict[str, bytes]:
    """Contents of the attributes that :class:`ModuleState` does not restore, by name."""
    found = {}
    for part in (part for module in modules for part in module.modules()):
        for name, value in vars(part).items():
            plain = isinstance(value, (nn.Module, Tensor, np.ndarray, *_GENERATORS))
            compiler = type(part).__module__.startswith("torch._dynamo")  # what it has compiled
            if name in _PLAIN or plain or compiler:
                continue
            with suppress(Exception):  # what cannot be pickled cannot be compared
                found[f"{type(part).__name__}.{name}"] = pickle.dumps(value)
    return found


@contextmanager
def modules_noticed(known: Iterable[nn.Module]) -> Iterator[list[nn.Module]]:
    """Lists the other modules that the block calls, and restores what it changes in them."""
    if not hasattr(torch.compiler, "set_stance"):  # before torch 2.6
        yield []
        return
    parts = {part for module in known for part in module.modules()}
    found: list[nn.Module] = []

    def note(module: nn.Module, _: object) -> None:
        if module not in parts:
            parts.update(module.modules())
            found.append(module)
            states.enter_context(ModuleState([module]))

    # Eagerly: otherwise the compiler would compile the hook, too, with a warning.
    with ExitStack() as states, torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
        states.callback(register_module_forward_pre_hook(note).remove)
        warnings.filterwarnings("ignore", message="Using `torch.compile")
        yield found


@contextmanager
def weights_from(module: nn.Module, other: nn.Module | None) -> Iterator[None]:
    """In the block ``module`` has the weights of ``other``, a copy of it; None changes nothing.

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
