"""The proof that D³ at weight 0 leaves a host's training unchanged.

The first steps of trainings with and without D³ are compared in all that the host holds then.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import pickle
import random
import sys
import threading
import types
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from d3_plugin.data import GZSLData
from d3_plugin.experiments.run import Training
from d3_plugin.experiments.run_identity import Run
from d3_plugin.hooks.describe import describe_trainer
from d3_plugin.hooks.manager import make_manager
from d3_plugin.hosts.host import Host
from d3_plugin.hosts.isolation import RandomStream, global_streams
from d3_plugin.hosts.module_state import eval_mode
from d3_plugin.hosts.synthesis import synthesize

STEPS = 20
"""Steps of the generator's optimiser that are watched."""

Held = dict[str, Any]
"""What a host holds after a training, by name; tensors as digests."""

_OTHER = "trainer"  # state in which two trainings may differ, such as the time
_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_SKIPPED = (GZSLData, threading.Thread, types.ModuleType, type)


def answer() -> None:
    """Entry point of that process."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as pipe:
        os.dup2(2, 1)  # what the host prints is no answer
        path, runs = pickle.load(sys.stdin.buffer)
        sys.path[:] = path
        pipe.write(prove(pickle.loads(runs)))


def prove(with_d3: Sequence[Run]) -> str:
    """Why the baseline cannot share a training with these runs; empty if it can.

    Each of the trainings has a process of its own: none sees what another has left behind.
    """
    for name in ("sklearn.datasets", "torch._dynamo"):  # in each fork it would take seconds
        importlib.import_module(name)
    torch.set_num_threads(with_d3[0].threads)
    baseline = replace(with_d3[0], variant="baseline", d3=None, plugin=None)
    found: list[Held] = []
    for runs in ([baseline], [baseline], [baseline, *with_d3]):
        answer = _in_own_process(runs)
        if isinstance(answer, str):
            return answer
        found.append(answer)
    if found[0]["threads"]:
        return "fit() starts threads, whose random numbers come in any order"
    return what_changes(*found)


def _in_own_process(runs: Sequence[Run]) -> Held | str:
    """What :func:`watched` finds, or why it fails."""
    if not hasattr(os, "fork"):
        return _tried(runs)
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        with open(writing, "wb") as pipe:
            pickle.dump(_tried(runs), pipe)
        os._exit(0)  # whatever threads the host has left
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(answer) if answer else "the training ended its process"


def _tried(runs: Sequence[Run]) -> Held | str:
    try:
        return watched(runs)
    except BaseException as error:  # of the host's own code
        return f"{type(error).__name__}: {error}"


class _EnoughError(BaseException):
    """Ends ``fit()``; not an Exception, which the host may catch."""


def watched(runs: Sequence[Run]) -> Held:
    """What a host holds after the first steps of a training and the synthesis for its evaluation.

    Args:
        runs: of one training; each D³ of them synthesises for its own evaluation before.
    """
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(0)
    training = Training(runs)
    manager = make_manager(training.plugins)
    host = describe_trainer(manager, training.trainer)
    steps = 0

    def count(*_: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == STEPS:
            raise _EnoughError

    host.optimizer.register_step_post_hook(count)
    with _threads_noted() as threads, suppress(_EnoughError):
        training.trainer.fit()
    classes = host.data.unseen_classes.repeat_interleave(host.synthetic_per_class)

    def synthesised() -> Tensor:
        with RandomStream(0, host.device, "proof"), eval_mode(host.modules), torch.no_grad():
            return synthesize(host, manager.hook, classes, differentiable=False)

    for _ in filter(None, training.attached):
        synthesised()
    rows = synthesised()
    found = held(training.trainer, host, training.plugins)
    return {**found, "synthetic rows": value_digest(rows), "threads": sorted(threads)}


@contextmanager
def _threads_noted() -> Iterator[set[str]]:
    """Names of the kinds of threads that are started in the block."""
    found: set[str] = set()

    def note(*_: Any) -> None:
        sys.setprofile(None)
        kind = type(threading.current_thread())
        if kind.__module__.partition(".")[0] != "tqdm":  # which only watches the clock
            found.add(kind.__qualname__)

    before = threading.getprofile()
    threading.setprofile(note)
    try:
        yield found
    finally:
        threading.setprofile(before)


def what_changes(alone: Held, again: Held, beside: Held) -> str:
    """What D³ changes in a training, in words; empty if nothing.

    Args:
        alone, again: of two trainings without D³ from the same seed. Attributes of the trainer that
            differ between them, such as times, are not compared.
        beside: of one with D³ at weight 0.
    """
    unsteady = _different(alone, again)
    if needed := [name for name in unsteady if not name.startswith(f"{_OTHER}.")]:
        return f"two trainings without D³ from one seed differ in {', '.join(needed[:5])}"
    changed = [name for name in _different(alone, beside) if name not in unsteady]
    found = ", ".join(changed[:5])
    return f"D³ at weight 0 changes the result of training: {found}" if changed else ""


def _different(one: Held, other: Held) -> list[str]:
    return [name for name in {**one, **other} if one.get(name, "") != other.get(name, "")]


def held(trainer: Any, host: Host, plugins: Sequence[object] = ()) -> Held:
    """Everything that can be compared in a trainer, its class and module, plugins and streams."""
    found: Held = {}
    modules = {"generator": host.generator}
    modules |= {
        k: v for k, v in getattr(trainer, "__dict__", {}).items() if isinstance(v, nn.Module)
    }
    modules |= {f"Host.modules[{i}]": module for i, module in enumerate(host.modules)}
    for name, module in modules.items():
        found |= {
            f"{name}.{key}": value_digest(value) for key, value in module.state_dict().items()
        }
    found["history"] = repr(getattr(trainer, "history", None))  # exact, and NaN equals NaN
    streams = global_streams(host.device)
    found["global random streams"] = {name: value_digest(state) for name, state in streams.items()}
    seen = {id(trainer): trainer}
    found |= _contents(getattr(trainer, "__dict__", {}), _OTHER, seen)
    found |= _contents(
        [vars(p) for p in plugins if hasattr(p, "__dict__")], f"{_OTHER}.plugins", seen
    )
    for each in type(trainer).__mro__[:-1]:
        its_module = sys.modules.get(each.__module__)
        if each.__module__.partition(".")[0] in ("torch", "d3_plugin", *sys.stdlib_module_names):
            continue
        found |= _contents(dict(vars(each)), f"{_OTHER}.{each.__name__}", seen)
        found |= _contents(
            dict(vars(its_module)) if its_module else {}, f"{_OTHER}.{each.__module__}", seen
        )
    return found


def _contents(value: Any, place: str, seen: dict[int, Any]) -> Iterator[tuple[str, Any]]:
    """Names and values of all that an object holds, without cycles."""
    if isinstance(value, (bool, int, float, complex, str, bytes, type(None), np.generic)):
        yield place, repr(value)
        return
    if id(value) in seen or isinstance(value, _SKIPPED):
        return
    seen[id(value)] = value
    if isinstance(value, (Tensor, np.ndarray, *_GENERATORS)):
        yield place, value_digest(value)
    elif isinstance(value, Mapping):
        for key, each in list(value.items()):
            if not str(key).startswith("__") and " at 0x" not in str(key):
                yield from _contents(each, f"{place}.{key!s:.40}", seen)
    elif isinstance(value, (list, tuple, deque)):
        for position, each in enumerate(list(value)):
            yield from _contents(each, f"{place}[{position}]", seen)
    elif isinstance(value, torch.optim.Optimizer):
        yield from _contents(value.state_dict(), place, seen)
    elif isinstance(value, nn.Module):
        own = {k: v for k, v in vars(value).items() if not k.startswith("_")}
        yield from _contents({**value.state_dict(), **own}, place, seen)
        yield from _contents(dict(value.named_children()), place, seen)
    elif isinstance(getattr(value, "__dict__", None), dict):
        yield from _contents(vars(value), place, seen)
    elif " at 0x" not in (text := repr(value)):  # a set, itertools.count(), ...
        yield place, text


def value_digest(value: Any) -> str:
    if isinstance(value, Tensor):
        flat = value.detach().cpu().reshape(-1)
        raw = repr(flat).encode() if flat.layout != torch.strided else _bytes(flat)
        return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(raw).hexdigest()}"
    if isinstance(value, np.ndarray) and value.dtype != object:
        return f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    if isinstance(value, torch.Generator):
        return value_digest(value.get_state())
    if isinstance(value, np.random.Generator):
        value = value.bit_generator.state
    elif isinstance(value, np.random.RandomState):
        value = value.get_state(legacy=False)
    elif isinstance(value, random.Random):
        value = value.getstate()
    with np.printoptions(threshold=sys.maxsize):
        return hashlib.sha256(repr(value).encode()).hexdigest()


def _bytes(flat: Tensor) -> bytes:
    return flat.contiguous().view(torch.uint8).numpy().tobytes() if flat.numel() else b""
