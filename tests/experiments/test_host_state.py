"""What a host holds: all that differs is seen, and equal values are equal."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from d3_plugin import Host
from d3_plugin.data import GZSLData
from d3_plugin.experiments.host_state import held, held_in, what_changes
from d3_plugin.testing.case import differences, on_copies, seeded, state_of


def waiting(number: float) -> queue.Queue[float]:
    made: queue.Queue[float] = queue.Queue()
    made.put(number)
    return made


class Rows:
    """Pickled by an iterator over itself."""

    __slots__ = ("rows",)

    def __init__(self, number: float) -> None:
        self.rows = [number]

    def __iter__(self) -> Iterator[float]:
        yield from self.rows

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (), None, iter(self)


class Noted(nn.Linear):
    """An extra state is made of what is private; a hook adds to the state dict."""

    def __init__(self, number: float) -> None:
        super().__init__(1, 1)
        nn.init.ones_(self.weight)
        nn.init.ones_(self.bias)
        self._mean = torch.tensor(number)

    def get_extra_state(self) -> dict[str, Any]:
        return {"mean": self._mean, "steps": [1, 2]}


def with_hook(number: float) -> nn.Module:
    def add(_: nn.Module, state: dict[str, Any], prefix: str, __: object) -> None:
        state[f"{prefix}added"] = torch.tensor(number)

    module = nn.Identity()
    module._register_state_dict_hook(add)
    return module


def with_buffer(number: float) -> nn.Module:
    module = nn.Identity()
    module.register_buffer("count", torch.tensor(number), persistent=False)
    return module


def with_unsaved_weight(number: float) -> nn.Module:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, number)
    module.state_dict = dict  # type: ignore[assignment]
    return module


def of_objects(number: float) -> np.ndarray[Any, Any]:
    array = np.empty(2, dtype=object)
    array[:] = [torch.tensor(number), {"a": torch.tensor(number)}]
    return array


HOLDERS: dict[str, Callable[[float], Any]] = {
    "deque": lambda number: deque([number], maxlen=5),
    "queue": waiting,
    "deque of tensors": lambda number: deque([torch.tensor(number)]),
    "iterator over itself": Rows,
    "extra state": Noted,
    "extra state inside": lambda number: nn.Sequential(Noted(number)),
    "state dict hook": with_hook,
    "buffer that is not saved": with_buffer,
    "weight that is not saved": with_unsaved_weight,
    "dict of tensors": lambda number: {"mean": torch.tensor(number)},
    "list of tensors": lambda number: [torch.tensor(number)],
    "array of objects": of_objects,
    "record of objects": lambda number: np.array([(number, "a")], dtype=[("x", "O"), ("y", "O")]),
    "long names": lambda number: {"a" * 50: number, "a" * 49 + "b": 0.0},
    "NumPy's generator": lambda number: np.random.default_rng(int(number)),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_content_is_compared(holder: str) -> None:
    one, same, other = ({"held": HOLDERS[holder](number)} for number in (1.0, 1.0, 2.0))
    assert held_in(one) == held_in(same)
    assert held_in(one) != held_in(other)


def test_a_host_with_an_extra_state_of_tensors(toy_data: GZSLData) -> None:
    def ended(number: float) -> dict[str, Any]:
        with seeded(0):
            generator = Noted(number)
            optimizer = torch.optim.SGD(generator.parameters(), lr=1.0)
            return held(SimpleNamespace(), Host("noted", generator, optimizer, toy_data))

    one, same, other = map(ended, (1.0, 1.0, 2.0))
    assert what_changes(one, same, one) == ""
    assert "generator._extra_state" in what_changes(one, same, other)


def test_the_adapter_kit_compares_extra_states() -> None:
    critics = [Noted(number) for number in (1.0, 1.0, 2.0)]
    one, same, other = (state_of({"critic": critic}) for critic in critics)
    assert differences(one, same) == []
    assert differences(one, other) == ["critic._extra_state"]


def test_inputs_that_hold_tensors_are_compared() -> None:
    def ends(rows: dict[str, Tensor]) -> int:
        return len(rows)

    assert on_copies("ends", ends, rows={"a": torch.ones(2)}) == 1
