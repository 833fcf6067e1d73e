"""Watches how a loop calls its generator, and learns the form of the call from what it passes."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch._C._functorch import peek_interpreter_stack
from torch.nn.parallel import DistributedDataParallel

from d3_plugin.data import GZSLData
from d3_plugin.hosts.loop_evidence import AttributeFinder, Classes
from d3_plugin.hosts.loop_form import CallForm
from d3_plugin.hosts.loop_reading import Argument, Call, Reading, read

_OF_A_KIND, _OF_A_MODE = 8, 32  # calls kept
_PATIENCE = 20_000  # calls watched
_ENOUGH = 8  # calls that agree

_d3_calls: list[None] = []  # one entry for each block of own_calls; append and pop are atomic


@contextmanager
def own_calls() -> Iterator[None]:
    """Calls in this block are D³'s own: no watcher counts them, in any thread."""
    _d3_calls.append(None)
    try:
        yield
    finally:
        _d3_calls.pop()


class _Watcher:
    """The forward pre-hook: draws nothing, never waits for a GPU, holds neither D³ nor the data.

    Copies of the generator, including pickled ones, get a do-nothing function of the standard
    library in its place.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.handle: Any = None
        self._seen, self._kept = 0, Counter[tuple[object, ...]]()

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling() or _d3_calls:  # keeps this out of compiled graphs
            return
        self._seen += 1
        if self._seen > _PATIENCE:
            self.handle.remove()
        mode = module.training, torch.is_grad_enabled()
        first = args[0] if args else next(iter(kwargs.values()), None)
        kind = (*mode, getattr(first, "shape", None), len(args), *kwargs)
        if self._kept[kind] >= _OF_A_KIND or self._kept[mode] >= _OF_A_MODE or _unreadable():
            return
        self._kept[kind] += 1
        self._kept[mode] += 1
        given: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
        self.calls.append(Call(*mode, {key: Argument.of(value) for key, value in given}))

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (nullcontext(), "__exit__")


def _unreadable() -> bool:
    """Whether tensors have no values yet: in torch.func, or while a CUDA graph is captured."""
    captured = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
    return captured or peek_interpreter_stack() is not None


def bare(generator: nn.Module) -> nn.Module:
    """The module inside ``DataParallel`` or ``DistributedDataParallel``."""
    while isinstance(generator, (nn.DataParallel, DistributedDataParallel)):
        generator = generator.module
    return generator


_watched: weakref.WeakKeyDictionary[nn.Module, LoopCalls] = weakref.WeakKeyDictionary()


class LoopCalls:
    """Learns from the loop's own calls how it calls its generator.

    A forward pre-hook copies up to 32 rows of each argument: of the first 8 calls of a kind (mode,
    with gradient or not, arguments, number of rows), and of at most 32 calls in each mode. It is
    removed once the loop's synthesis of unseen classes has been seen and 8 calls agree, or after
    20,000 calls. The copies are analysed only in :meth:`form`.

    Args:
        generator: the module that the loop calls; it may be compiled, or wrapped in
            DistributedDataParallel. Calls in a compiled step, of a module that is compiled
            later, and of a scripted module are not seen.
        data: whose attributes the loop passes.
    """

    def __init__(self, generator: nn.Module, data: GZSLData) -> None:
        generator = bare(generator)
        self._device, self._classes = data.attributes.device, Classes.of(data)
        self._finder, self._watcher = AttributeFinder(self._classes), _Watcher()
        if not isinstance(generator, torch.jit.ScriptModule):  # which takes no hooks
            self._watcher.handle = generator.register_forward_pre_hook(
                self._watcher, prepend=True, with_kwargs=True
            )
        self._read = 0
        self._form: CallForm | None = None
        _watched[generator] = self

    @staticmethod
    def of(generator: nn.Module, data: GZSLData) -> LoopCalls | None:
        """The watcher of another D³ on this generator, if it has the same attributes."""
        known = _watched.get(bare(generator))
        same = known is not None and torch.equal(known._classes.attributes, data.attributes.cpu())
        return known if same else None

    def remove(self) -> None:
        """Stop watching; the form learnt so far is kept."""
        if self._watcher.handle is not None:
            self._watcher.handle.remove()

    def form(self, *, now: bool = False) -> CallForm | None:
        """The form of the loop's calls; None until one call with attributes, or 8 calls, were seen.

        Args:
            now: analyse all calls seen. By default that is done only when there are twice as many
                as last time, or 8: it makes a GPU wait.
        """
        calls = self._watcher.calls[:]
        first_enough = self._read < _ENOUGH <= len(calls)
        if len(calls) > (self._read if now else 2 * self._read) or first_enough:
            self._read, learnt = len(calls), self._learn(calls, now=now)
            # After 8 calls only the loop's own synthesis changes the form, so that a run resumed
            # with the saved form behaves like one that was never stopped.
            if learnt is not None and (not self._is_settled or learnt.of_unseen):
                self.take(learnt)
        return self._form

    @property
    def _is_settled(self) -> bool:
        form = self._form
        return form is not None and form.calls >= _ENOUGH and not form.problem

    def take(self, form: CallForm) -> None:
        """Use this form, from the loop's calls or from a saved state."""
        self._form = form.to(self._device)
        if form.training is not None and form.calls >= _ENOUGH:
            self.remove()

    @torch.no_grad()
    def _learn(self, calls: list[Call], *, now: bool) -> CallForm | None:
        calls = [call.on_cpu() for call in calls]  # in double precision, which some GPUs lack
        kinds: dict[tuple[object, ...], list[Call]] = {}
        for call in calls:
            kinds.setdefault(call.kind, []).append(call)
        readings = [
            each for some in kinds.values() for each in read(some, self._classes, self._finder)
        ]
        # What the loop does with unseen classes is synthesis; other calls may be reconstruction.
        best = max(readings, key=_rank)
        few = len(calls) < _ENOUGH  # the first of a step may be on mixtures of classes
        if few and (best.form.unmatched or (best.form.problem and not now)):
            return None
        same = [each for each in readings if each.form == best.form]
        agreeing = sum(len(each.calls) for each in same)
        known_by = f"{agreeing} of {len(calls)} calls of the loop"
        others = dict.fromkeys(str(each.form) for each in readings if each.form != best.form)
        if others:
            known_by += f"; the others: {', '.join(others)}"
        synthesis = [call for each in same if each.of_unseen for call in each.calls]
        quiet = [call for call in synthesis if not call.grad]
        training = quiet[-1].training if quiet else None
        return replace(
            best.form,
            calls=agreeing,
            known_by=known_by,
            training=training,
            of_unseen=best.of_unseen,
        )


def _rank(reading: Reading) -> tuple[bool, bool, int, int]:
    form = reading.form
    return not form.unmatched, reading.of_unseen, len(reading.calls), len(form.slots)
