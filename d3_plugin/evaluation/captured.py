"""A function of rows as a list of PyTorch operations and tensors, which needs no code of a host.

Such a list may come from a file of anyone. What it can do is what stands in the tables below:
functions of tensors that change none, and arithmetic on sizes.
"""

from __future__ import annotations

import math
import operator
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from d3_plugin.errors import HostError

EXAMPLES = 7

# PyTorch's Core ATen operations, to which torch.export decomposes all others, without those that
# are random, read memory that nothing has written, or are of no use after training.
_OF_TENSORS = """
abs acos acosh add.Tensor add.Scalar addmm alias amax amin any any.dim any.dims arange.start_step
argmax argmin asin asinh atan atan2 atanh bitwise_and.Tensor bitwise_and.Scalar bitwise_not
bitwise_or.Tensor bitwise_or.Scalar bitwise_xor.Tensor bitwise_xor.Scalar bmm cat ceil clamp
clamp.Tensor clone constant_pad_nd copy cos cosh cumsum detach diagonal div.Tensor div.Scalar
div.Tensor_mode div.Scalar_mode elu embedding eq.Tensor eq.Scalar erf exp expand expm1 fill.Scalar
flip floor fmod.Tensor fmod.Scalar full full_like gather ge.Tensor ge.Scalar gelu gt.Tensor
gt.Scalar hardtanh index.Tensor index_put index_select isinf isnan le.Tensor le.Scalar leaky_relu
linalg_vector_norm log log10 log1p log2 logical_and logical_not logical_or logical_xor lt.Tensor
lt.Scalar max.dim maximum mean mean.dim min.dim minimum mm mul.Tensor mul.Scalar native_group_norm
native_layer_norm ne.Tensor ne.Scalar neg permute pow.Tensor_Tensor pow.Tensor_Scalar pow.Scalar
prod prod.dim_int reciprocal relu remainder.Tensor remainder.Scalar repeat round rsqrt scalar_tensor
scatter.value scatter.src scatter_add scatter_reduce.two select.int select_scatter sigmoid sign sin
sinh slice.Tensor slice_scatter sort split_with_sizes sqrt squeeze.dim squeeze.dims sub.Tensor
sub.Scalar sum.dim_IntList sym_size.int tan tanh topk trunc unsqueeze var.dim var.correction view
where.self _cdist_forward _log_softmax _native_batch_norm_legit_no_training _softmax _to_copy
"""
_ON_SIZES = (operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod)
_SETTINGS = """
float32 float64 float16 bfloat16 bool uint8 int8 int16 int32 int64 strided contiguous_format
preserve_format
"""
_WORDS = {"none", "tanh", "floor", "trunc", "sum", "prod", "mean", "amax", "amin"}
_STEPS, _ELEMENTS = 10_000, 2**29  # of a file, and of all its values for a few rows

Step = tuple[str, str, list[Any], dict[str, Any]]
"""Name of the value, operation, arguments and keyword arguments, as JSON can hold them."""


def _operations() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in _OF_TENSORS.split():
        packet, overload = name.split(".") if "." in name else (name, "default")
        found = getattr(torch.ops.aten, packet, None)  # older versions of PyTorch lack some
        if found is not None and overload in found.overloads():
            yield f"aten.{packet}.{overload}", getattr(found, overload)
    for function in _ON_SIZES:
        yield function.__name__, partial(_on_sizes, function)
    yield "getitem", _item


def _on_sizes(function: Callable[[int, int], int], one: object, other: object) -> int:
    if type(one) is not int or type(other) is not int:
        raise TypeError("arithmetic is for sizes")
    size = function(one, other)
    if abs(size) >= 2**63:
        raise OverflowError("no such size")
    return size


def _item(values: object, index: object) -> Any:
    if not isinstance(values, (tuple, list)) or type(index) is not int:
        raise TypeError("items are taken from several results of an operation")
    return values[index]


_OPERATIONS = dict(_operations())
_FROM_SIZES = [_OPERATIONS[f"aten.{n}"] for n in ("arange.start_step", "full.default")]
_SETTING_OF = {name: getattr(torch, name) for name in _SETTINGS.split()}


class Captured:
    """A function (N, D) -> (N, C), replayed operation by operation.

    Args:
        tensors: by name.
        steps: the operations, in order; no other can be run than those of this module.
        result: name of the scores.
        width: D.
        num_classes: C.

    Raises:
        Exception: of any kind, if this is no such function.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        steps: Sequence[Step],
        result: str,
        *,
        width: int,
        num_classes: int,
    ) -> None:
        self.tensors, self.steps, self.result = tensors, steps, result
        if len(steps) > _STEPS:
            raise ValueError(f"more than {_STEPS} steps")
        self._steps = [(name, _OPERATIONS[step], args, named) for name, step, args, named in steps]
        device = next((tensor.device for tensor in tensors.values()), torch.device("cpu"))
        for number in (1, 3):
            rows = torch.zeros(number, width, device=device)
            self._replay(rows.to("meta"), most=_ELEMENTS)  # there, values take no memory
            scores = self(rows)
            if scores.shape != (number, num_classes) or not scores.is_floating_point():
                raise ValueError("scores of another shape")

    @torch.no_grad()
    def __call__(self, rows: Tensor) -> Tensor:
        return self._replay(rows)

    def _replay(self, rows: Tensor, *, most: float = math.inf) -> Tensor:
        """The scores; the values on the way to them may have so many elements, all together."""
        values: dict[str, Any] = {name: each.to(rows.device) for name, each in self.tensors.items()}
        values |= {"rows": rows, "device": rows.device}
        elements = 0
        for name, operation, args, kwargs in self._steps:
            given = [_decoded(each, values) for each in args]
            named = {each: _decoded(value, values) for each, value in kwargs.items()}
            if operation in _FROM_SIZES:
                named["device"] = rows.device
            values[name] = made = operation(*given, **named)
            several = made if isinstance(made, (tuple, list)) else [made]
            elements += sum(each.numel() for each in several if isinstance(each, Tensor))
            if elements > most:
                raise MemoryError(f"{name} is too large")
        scores: Tensor = values[self.result]
        return scores


def capture(function: Callable[[Tensor], Tensor], rows: Tensor) -> Captured:
    """The operations of ``function`` on rows, with its tensors copied.

    Args:
        function: (N, D) -> (N, C), for any N.
        rows: (``EXAMPLES``, D).

    Raises:
        HostError: it is not made of PyTorch operations on its rows alone, or random; says why.
    """
    try:
        expected = [function(some) for some in (rows, rows[:3], rows[:1])]
        with warnings.catch_warnings():  # torch 2.4 warns of each module in a closure
            warnings.simplefilter("ignore")
            captured = Captured(
                *_exported(function, rows), width=rows.shape[1], num_classes=expected[0].shape[1]
            )
        for scores in expected:
            if not torch.allclose(captured(rows[: len(scores)]), scores, rtol=1e-5, atol=1e-6):
                raise ValueError("its scores differ from call to call")
    except Exception as error:  # whatever torch.export makes of a user's code
        lines = str(error).strip().splitlines() or [""]
        raise HostError(f"{type(error).__name__}: {lines[0]}") from error
    return captured


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """For torch.export, after whose interruption nothing compiles in the process any more."""
    if threading.current_thread() is not threading.main_thread():
        yield  # which never gets one
        return
    pressed: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if pressed:
            signal.raise_signal(signal.SIGINT)


class _AsModule(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, rows: Tensor) -> Tensor:
        return self.function(rows)


def _exported(
    function: Callable[[Tensor], Tensor], rows: Tensor
) -> tuple[dict[str, Tensor], list[Step], str]:
    shapes = {"rows": {0: torch.export.Dim("n")}}
    module = _AsModule(function)
    with _ctrl_c_waits():
        exported = torch.export.export(module, (rows,), dynamic_shapes=shapes, strict=False)
        exported = exported.run_decompositions()
    signature = exported.graph_signature
    owners = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    owners |= signature.inputs_to_lifted_tensor_constants
    stored: dict[str, Any] = {**exported.constants, **exported.state_dict}
    tensors = {name: stored[key].detach().clone() for name, key in owners.items()}
    (given,), (result,) = signature.user_inputs, signature.user_outputs
    steps: list[Step] = []
    for node in exported.graph.nodes:
        operation = str(node.target)
        # torch.export adds assertions, which name the device of the capture.
        if node.op != "call_function" or "_assert" in operation:
            continue
        if operation.startswith("<built-in function "):
            operation = operation.split()[-1].strip(">")
        if operation not in _OPERATIONS:
            raise ValueError(f"{operation} cannot be saved")
        named = {name: _encoded(value, given) for name, value in node.kwargs.items()}
        steps.append((node.name, operation, [_encoded(v, given) for v in node.args], named))
    return tensors, steps, str(result)


def _encoded(value: Any, rows: object) -> Any:
    """As JSON can hold it; values, settings and devices become objects with one key."""
    if isinstance(value, fx.Node):
        return {"value": "rows" if value.name == rows else value.name}
    if isinstance(value, torch.device):  # where the rows are, whenever it is replayed
        return {"value": "device"}
    if isinstance(value, (torch.dtype, torch.layout, torch.memory_format)):
        return {"setting": str(value).removeprefix("torch.")}
    if isinstance(value, (list, tuple)):
        return [_encoded(part, rows) for part in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be saved")


def _decoded(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        ((kind, name),) = value.items()
        return {"value": values, "setting": _SETTING_OF}[kind][name]
    if isinstance(value, list):
        return [_decoded(part, values) for part in value]
    if isinstance(value, str) and value not in _WORDS:  # such as the name of a device
        raise ValueError(f"no option of an operation: {value!r}")
    return value
