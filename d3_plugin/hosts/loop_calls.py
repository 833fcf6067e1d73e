"""What is seen of a loop: its own calls of the generator, noted by a forward pre-hook."""

from __future__ import annotations

import math
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import peek_interpreter_stack

_ROWS, _VALUES = 32, 2**14  # kept of an argument at most
_OF_A_KIND, _OF_A_MODE = 8, 32  # calls kept

_d3_calls: list[None] = []  # one entry for each block of own_calls; append and pop are atomic


@contextmanager
def own_calls() -> Iterator[None]:
    """Calls in this block are D³'s own: no watcher counts them, in any thread."""
    _d3_calls.append(None)
    try:
        yield
    finally:
        _d3_calls.pop()


@dataclass(frozen=True)
class Argument:
    """What is kept of an argument, so that the loop may overwrite or free it.

    Attributes:
        kind: what it has in common in calls of one form: type, width, dtype.
        value: itself, if it is None, a number or text.
        rows: a copy of a tensor's first rows.
        shape: of the tensor.
        computed: whether it is a parameter or comes from another network.
        original: a weak reference, where there is one.
    """

    kind: str
    value: Any = None
    rows: Tensor | None = None
    shape: tuple[int, ...] = ()
    computed: bool = False
    original: weakref.ref[Any] | None = None

    @classmethod
    def of(cls, value: Any) -> Argument:
        kind = type(value).__name__
        if value is None or isinstance(value, (bool, int, float, str)):
            return cls(kind, value)
        original = weakref.ref(value) if type(value).__weakrefoffset__ else None
        plain = type(value) in (Tensor, nn.Parameter) and value.layout == torch.strided
        if not plain or value.is_meta:
            return cls(kind, original=original)
        shape, rows = tuple(value.shape), value.detach()
        if shape:
            rows = rows[: min(_ROWS, _VALUES // max(1, value.numel() // max(1, shape[0])))]
            if len(shape) > 2 and max(shape[1:]) == math.prod(shape[1:]):
                rows = rows.flatten(1)  # (N, 1, W) or (N, W, 1, 1)
        kind = f"{shape[1:]} {str(value.dtype).removeprefix('torch.')} tensor"
        return cls(kind, None, rows.clone(), shape, value.requires_grad, original)

    @property
    def is_rows(self) -> bool:
        """Whether these are numbers (N, W), but for dimensions of length 1."""
        rows = self.rows
        return rows is not None and rows.ndim == 2 and rows.numel() > 0 and rows.is_floating_point()


@dataclass(frozen=True)
class Call:
    """A call of the generator: the mode it was made in, and its arguments by place or name."""

    training: bool
    grad: bool
    arguments: dict[int | str, Argument]

    @property
    def kind(self) -> tuple[object, ...]:
        return tuple((key, each.kind) for key, each in self.arguments.items())

    @property
    def batch(self) -> int:
        """The number of rows: of most arguments, the first of them in doubt."""
        sizes = Counter(a.shape[0] for a in self.arguments.values() if a.shape)
        return sizes.most_common(1)[0][0] if sizes else 0


class Watcher:
    """The hook. Draws nothing, waits for no device, knows neither D³ nor data.

    Keeps the first 8 calls of a kind (mode, with gradient or not, arguments, number of rows), 32 at
    most in each mode. Copies of the generator, also pickled ones, get a function of the standard
    library instead, which does nothing.

    Args:
        generator: nothing is seen of calls in a compiled step, of a generator that is compiled
            afterwards, and of a scripted one.
    """

    def __init__(self, generator: nn.Module) -> None:
        self.calls: list[Call] = []
        self._handle: Any = None
        self._kept = Counter[tuple[object, ...]]()
        if not isinstance(generator, torch.jit.ScriptModule):  # which takes no hooks
            self._handle = generator.register_forward_pre_hook(self, prepend=True, with_kwargs=True)

    def remove(self) -> None:
        if self._handle is not None:
            self._handle.remove()

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling() or _d3_calls:  # a graph gets nothing of this
            return
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
    """In torch.func, and while a CUDA graph is captured, tensors have no values yet."""
    captured = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
    return captured or peek_interpreter_stack() is not None
