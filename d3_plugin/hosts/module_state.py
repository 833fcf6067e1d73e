"""Saves and restores what a forward pass changes in the host's modules."""

from __future__ import annotations

import inspect
import itertools
import pickle
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from d3_plugin.errors import HostError

_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_WITH_CONTENT = (Tensor, np.ndarray, *_GENERATORS)
_PLAIN = vars(nn.Module()).keys()  # the attributes that every module has


class ModuleState:
    """Everything that a forward pass may change in modules; restored after the ``with`` block.

    These are buffers (batch-norm statistics, spectral-norm vectors), also new and re-bound ones;
    layers and parameters that are made in a forward pass; parameters that are not trained, such as
    averages; modes and other plain attributes, such as counters; NumPy arrays; and random
    generators held as attributes. Changes inside a list, dict or other object are not covered, see
    :func:`uncovered`.

    Args:
        modules: with all their submodules.
        trained: parameters whose values a forward pass changes, though an optimiser trains them;
            copies take their place, as graphs of the host's may have saved them.
    """

    def __init__(self, modules: Iterable[nn.Module], trained: Iterable[Tensor] = ()) -> None:
        swapped = set(trained)
        self._restoring: list[Callable[[], object]] = []
        parts = itertools.chain.from_iterable(module.modules() for module in modules)
        for part in parts:
            if isinstance(part, torch.jit.ScriptModule):  # without Python dicts
                held: list[Any] = [*part.buffers(recurse=False)]
            else:
                for own in (part._buffers, part._parameters, part._modules, vars(part)):
                    self._restoring.append(partial(_reset, own, dict(own)))
                added = [value for name, value in vars(part).items() if name not in _PLAIN]
                held = [*part._buffers.values(), *part._parameters.values(), *added]
            for value in held:
                learnt = isinstance(value, Tensor) and value.requires_grad
                if isinstance(value, _WITH_CONTENT) and not learnt:
                    self._restoring.append(_restoring(value))
            for name, parameter in part._parameters.items() if swapped else ():
                if parameter in swapped:  # gradient reaches the parameter through its copy
                    part._parameters[name] = parameter.clone()  # type: ignore[assignment]

    def __enter__(self) -> None:
        """Everything is saved already."""

    def __exit__(self, *_: object) -> None:
        _call_all(self._restoring)


def _reset(own: dict[str, Any], before: dict[str, Any]) -> None:
    own.update(before)
    for name in own.keys() - before.keys():
        del own[name]


def _restoring(value: Any) -> Callable[[], object]:
    """A call that gives this object the content that it has now."""
    if isinstance(value, Tensor):
        return partial(_write, value, value.detach().clone())
    if isinstance(value, np.ndarray):
        return partial(np.copyto, value, value.copy()) if value.flags.writeable else bool
    if isinstance(value, np.random.Generator):
        return partial(setattr, value.bit_generator, "state", value.bit_generator.state)
    if isinstance(value, random.Random):
        return partial(value.setstate, value.getstate())
    return partial(value.set_state, value.get_state())


def _write(tensor: Tensor, values: Tensor) -> None:
    memory = tensor.data  # no version bump, so graphs that saved the tensor still run backward
    if memory.shape != values.shape:  # it has been resized
        tensor.data = values
        return
    dense = memory.layout == torch.strided
    fixed = memory.is_inference() or (dense and 0 in memory.stride())  # by expand()
    # What is equal may be mapped from a file, read-only. A GPU would have to wait for the answer.
    equal = dense and memory.device.type == "cpu" and torch.equal(memory, values)
    if not (fixed or equal):
        memory.copy_(values)


def _call_all(calls: Sequence[Callable[[], object]]) -> None:
    """Calls that restore; once more from the start if Ctrl-C comes in the middle."""
    try:
        for call in calls:
            call()
    except KeyboardInterrupt:
        for call in calls:
            call()
        raise


def uncovered(modules: Iterable[nn.Module]) -> dict[str, bytes]:
    """Contents of the attributes that :class:`ModuleState` does not restore, by name."""
    found = {}
    for part in (part for module in modules for part in module.modules()):
        for name, value in vars(part).items():
            plain = isinstance(value, (nn.Module, *_WITH_CONTENT))
            compiler = type(part).__module__.startswith("torch._dynamo")  # what it has compiled
            if name in _PLAIN or plain or compiler:
                continue
            with suppress(Exception):  # what cannot be pickled cannot be compared
                found[f"{type(part).__name__}.{name}"] = pickle.dumps(value)
    return found


@contextmanager
def parameters_kept(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Afterwards lists the parameters whose values the block has changed, and restores them."""
    before = [(p, p.data, p.detach().clone()) for p in parameters]
    changed: list[Tensor] = []
    try:
        yield changed
    finally:
        for parameter, memory, values in before:
            if not torch.equal(parameter, values):
                changed.append(parameter)
                parameter.data = memory.copy_(values)


def keeping_hooks(modules: Iterable[nn.Module]) -> set[str]:
    """The layers with hooks of the script that may keep what they see, and the hooks' names.

    A function that reaches nothing but the layer keeps it there, where it is restored.
    """
    found = set()
    for module in modules:
        for name, part in module.named_modules():
            for hook in (*part._forward_hooks.values(), *part._forward_pre_hooks.values()):
                source = getattr(hook, "__module__", None) or ""
                if source.split(".")[0] not in ("torch", "d3_plugin") and _reaches_more(hook):
                    what = getattr(hook, "__qualname__", type(hook).__name__)
                    found.add(f"{name or type(part).__name__}: {what}")
    return found


def _reaches_more(hook: Any) -> bool:
    """Whether a hook reaches objects that can change, other than the layer."""
    if not isinstance(hook, FunctionType):
        return True
    reached = inspect.getclosurevars(hook)
    values = *reached.nonlocals.values(), *reached.globals.values(), *(hook.__defaults__ or ())
    functions_inside = any(isinstance(each, CodeType) for each in hook.__code__.co_consts)
    return functions_inside or not all(isinstance(value, _FIXED) for value in values)


_FIXED = (ModuleType, BuiltinFunctionType, type, int, float, str, type(None))


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
    if other is None:
        yield
        return
    if isinstance(other, (AveragedModel, nn.DataParallel, DistributedDataParallel)):
        other = other.module
    own, given = ([*net.parameters(), *net.buffers()] for net in (module, other))
    if [tensor.shape for tensor in own] != [tensor.shape for tensor in given]:
        raise HostError("evaluate(generator=...) takes a generator with the same layers")
    restoring = [_restoring(tensor) for tensor in own]
    try:
        for tensor, value in zip(own, given, strict=True):
            _write(tensor, value.data)
        yield
    finally:
        _call_all(restoring)


@contextmanager
def eval_mode(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Every submodule in eval mode, and afterwards each in the mode it had."""
    parts = [part for module in modules for part in module.modules()]
    restoring = [partial(setattr, part, "training", part.training) for part in parts]
    try:
        for part in parts:
            part.training = False
        yield
    finally:
        _call_all(restoring)


@contextmanager
def train_mode(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Every submodule in train mode, and afterwards each in the mode it had."""
    with eval_mode(modules):  # which restores
        for module in modules:
            module.train()
        yield
