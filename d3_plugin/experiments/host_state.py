"""Everything that a host holds after a training, to be compared with that of another training."""

from __future__ import annotations

import functools
import hashlib
import inspect
import pickle
import random
import sys
import threading
import types
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from d3_plugin.data import GZSLData
from d3_plugin.experiments.source_digests import module_digests
from d3_plugin.hosts.host import Host
from d3_plugin.hosts.isolation import global_streams

Held = dict[str, Any]
"""What a host holds, by name; tensors as digests."""

_OTHER = "trainer"  # state in which two trainings may differ, such as the time
_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_WITH_MORE = (types.MethodType, functools.partial)  # than attributes
_SKIPPED = (GZSLData, threading.Thread, types.ModuleType, type)


def what_changes(alone: Held, again: Held, beside: Held) -> str:
    """What D³ changes in a training, in words; empty if nothing.

    Args:
        alone, again: of two trainings without D³ from the same seed. Attributes of the trainer that
            differ between them, such as times, are not compared.
        beside: of one with D³ at weight 0.
    """
    unsteady = _different(alone, again)
    if needed := [name for name in unsteady if not name.startswith(f"{_OTHER}.")]:
        return f"two trainings without D³ from one seed differ in {_first(needed)}"
    changed = [name for name in _different(alone, beside) if name not in unsteady]
    return f"D³ at weight 0 changes the result of training: {_first(changed)}" if changed else ""


def _first(names: Sequence[str]) -> str:
    return ", ".join(f"{name:.100}" for name in names[:5])


def _different(one: Held, other: Held) -> list[str]:
    return [name for name in {**one, **other} if one.get(name, "") != other.get(name, "")]


def held(trainer: Any, host: Host, plugins: Sequence[object] = ()) -> Held:
    """Everything that can be compared in a trainer, its code, plugins and random streams.

    Args:
        trainer, host: after a training.
        plugins: hooks of the host.
    """
    networks = {"generator": host.generator}
    networks |= {f"Host.modules[{i}]": module for i, module in enumerate(host.modules)}
    values: dict[str, Any] = {
        f"{name}.{key}": value
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }
    found = held_in({**values, "global random streams": global_streams(host.device)})
    found["history"] = repr(getattr(trainer, "history", None))  # exact, and NaN equals NaN
    of_plugins = [vars(plugin) for plugin in plugins if hasattr(plugin, "__dict__")]
    others = {
        _OTHER: getattr(trainer, "__dict__", {}),
        f"{_OTHER}.plugins": of_plugins,
        **_code_state(trainer, plugins),
    }
    seen = {id(trainer): trainer}
    for place, value in others.items():
        found |= _contents(value, place, seen)
    return found


def held_in(values: Mapping[str, Any]) -> Held:
    """Everything that each of these values holds, by the value's name."""
    return {name: dict(_contents(value, name, {})) for name, value in values.items()}


def _code_state(trainer: Any, plugins: Sequence[object]) -> dict[str, Any]:
    """Attributes of the modules of the host's code, and of all classes there, by place."""
    own = [each for each in type(trainer).__mro__ if not _is_library(each.__module__)]
    imported = [n for n in module_digests([type(trainer), *plugins], None) if not _is_library(n)]
    modules = {each.__module__ for each in own} | {*imported}
    found: dict[str, Any] = {}
    for name in sorted(modules & sys.modules.keys()):
        there = dict(vars(sys.modules[name]))
        found[f"{_OTHER}.{name}"] = there
        own += [each for each in there.values() if isinstance(each, type)]
    for each in own:
        if each.__module__ in modules:
            found[f"{_OTHER}.{each.__module__}.{each.__qualname__}"] = dict(vars(each))
    return found


def _is_library(module: str) -> bool:
    return module.partition(".")[0] in ("torch", "d3_plugin", *sys.stdlib_module_names)


def _contents(value: Any, place: str, seen: dict[int, Any]) -> Iterator[tuple[str, str]]:
    """Names and values of all that an object holds, without cycles."""
    if isinstance(value, (bool, int, float, complex, str, bytes, type(None), np.generic)):
        yield place, repr(value)
        return
    if id(value) in seen or isinstance(value, _SKIPPED):
        return
    seen[id(value)] = value
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        value = [str(value.dtype), value.shape, value.tolist()]
    if isinstance(value, (Tensor, np.ndarray, *_GENERATORS)):
        yield place, value_digest(value)
    elif (parts := _parts(value)) is not None:
        for name, part in parts.items():
            if not str(name).startswith("__") and " at 0x" not in str(name):
                yield from _contents(part, f"{place}.{name}", seen)
    elif " at 0x" not in (text := repr(value)):  # a set, itertools.count(), ...
        yield place, text


def _parts(value: Any) -> Mapping[Any, Any] | None:
    """What a compound object consists of, by name; None for any other."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (list, tuple, deque)):
        return dict(enumerate(value))
    if isinstance(value, torch.optim.Optimizer):
        return dict(value.state_dict())
    if isinstance(value, nn.Module):
        public = {name: each for name, each in vars(value).items() if not name.startswith("_")}
        registered = {**value._parameters, **value._buffers, **value._modules}
        return {**value.state_dict(), **registered, **public}  # with its extra state
    if isinstance(value, types.FunctionType):
        kept = [value.__defaults__, value.__kwdefaults__, value.__closure__]
        return {**vars(value), "kept": kept}
    if isinstance(value, types.CellType):
        with suppress(ValueError):  # of an empty one
            return {"content": value.cell_contents}
    if isinstance(value, types.GeneratorType):
        return inspect.getgeneratorlocals(value)
    if isinstance(value, functools._lru_cache_wrapper):
        return {"cache": value.cache_info()}
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict) and not isinstance(value, _WITH_MORE):
        return attributes
    with suppress(Exception):  # what would be pickled: of iterators, methods, objects with slots
        reduced = value.__reduce_ex__(4)
        if isinstance(reduced, tuple):  # iterators of its items come last
            return dict(enumerate([*reduced[:3], *(list(each or ()) for each in reduced[3:5])]))
    return None


def value_digest(value: Any) -> str:
    """Of a tensor or an array without objects, or of a random generator's state."""
    if isinstance(value, torch.Generator):
        value = value.get_state()
    if isinstance(value, Tensor):
        flat = value.detach().cpu().reshape(-1)
        raw = repr(flat).encode() if flat.layout != torch.strided else _bytes(flat)
    elif isinstance(value, np.ndarray):
        raw = value.tobytes()
    else:
        raw = pickle.dumps(value)
    shape = f"{value.dtype} {tuple(value.shape)} " if hasattr(value, "shape") else ""
    return shape + hashlib.sha256(raw).hexdigest()


def _bytes(flat: Tensor) -> bytes:
    return flat.contiguous().view(torch.uint8).numpy().tobytes() if flat.numel() else b""
