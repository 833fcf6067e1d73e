"""A function of rows as a list of PyTorch operations and tensors, which needs no code of a host."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from d3_plugin.errors import HostError

EXAMPLES = 7


class Captured:
    """A function (N, D) -> (N, C), replayed operation by operation.

    Args:
        state: what :func:`capture` finds, plain values and tensors: ``tensors`` by name, ``steps``
            of name, operation, arguments and keyword arguments, and the name of the ``result``.

    Raises:
        Exception: of any kind, if it is not such a state.
    """

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state
        self._steps = [(step[0], _operation(step[1]), *step[2:]) for step in state["steps"]]

    def __call__(self, rows: Tensor) -> Tensor:
        values: dict[str, Any] = {**self.state["tensors"], "rows": rows, "device": rows.device}
        for name, operation, args, kwargs in self._steps:
            values[name] = operation(*_decoded(args, values), **_decoded(kwargs, values))
        result: Tensor = values[self.state["result"]]
        return result


def capture(function: Callable[[Tensor], Tensor], rows: Tensor) -> Captured:
    """The operations of ``function`` on rows, with its tensors copied.

    Args:
        function: (N, D) -> (N, C), for any N.
        rows: (``EXAMPLES``, D).

    Raises:
        HostError: it is not made of PyTorch operations on its rows alone, or random; says why.
    """
    try:
        with warnings.catch_warnings():  # torch 2.4 warns of each module in a closure
            warnings.simplefilter("ignore")
            captured = Captured(_captured_state(function, rows))
        for some in (rows, rows[:3]):
            if not torch.allclose(captured(some), function(some), rtol=1e-5, atol=1e-6):
                raise ValueError("its scores differ from call to call")
    except Exception as error:  # whatever torch.export makes of a user's code
        why = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        raise HostError(why) from error
    return captured


def _captured_state(function: Callable[[Tensor], Tensor], rows: Tensor) -> dict[str, Any]:
    class Function(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.function = function

        def forward(self, rows: Tensor) -> Tensor:
            return self.function(rows)

    shapes = {"rows": {0: torch.export.Dim("n")}}
    exported = torch.export.export(Function(), (rows,), dynamic_shapes=shapes, strict=False)
    signature = exported.graph_signature
    owners = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    owners |= signature.inputs_to_lifted_tensor_constants
    stored: dict[str, Any] = {**exported.constants, **exported.state_dict}
    tensors = {name: stored[key].detach().clone() for name, key in owners.items()}
    (given,), (result,) = signature.user_inputs, signature.user_outputs
    # torch.export adds assertions, which name the device of the capture.
    steps = [
        (node.name, str(node.target), _encoded(node.args, given), _encoded(node.kwargs, given))
        for node in exported.graph.nodes
        if node.op == "call_function" and "_assert" not in str(node.target)
    ]
    return {"tensors": tensors, "steps": steps, "result": result}


def _encoded(value: Any, rows: object) -> Any:
    """As values that can be saved; names of values, settings and devices become tuples."""
    if isinstance(value, fx.Node):
        return ("value", "rows" if value.name == rows else value.name)
    if isinstance(value, torch.device):  # where the rows are, whenever it is replayed
        return ("value", "device")
    if isinstance(value, (torch.dtype, torch.layout, torch.memory_format)):
        return ("torch", str(value).removeprefix("torch."))
    if isinstance(value, (list, tuple)):
        return [_encoded(part, rows) for part in value]
    if isinstance(value, dict):
        return {name: _encoded(part, rows) for name, part in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be saved")


def _decoded(value: Any, values: dict[str, Any]) -> Any:
    if isinstance(value, tuple):
        kind, name = value
        return values[name] if kind == "value" else getattr(torch, name)
    if isinstance(value, list):
        return [_decoded(part, values) for part in value]
    if isinstance(value, dict):
        return {name: _decoded(part, values) for name, part in value.items()}
    return value


def _operation(name: str) -> Callable[..., Any]:
    """An operation on tensors, such as ``aten.linear.default``, or an operator on sizes."""
    found: Any
    if name.startswith("<built-in function "):
        found = getattr(operator, name.split()[-1].strip(">"))
    else:
        namespace, packet, overload = name.split(".")
        found = getattr(getattr(torch.ops.aten, packet), overload)
        # From a file of anyone: nothing but arithmetic, and aten.from_file opens files.
        if namespace != "aten" or "filename" in str(found._schema):
            raise ValueError(f"no operation on tensors: {name}")
    return found  # type: ignore[no-any-return]
