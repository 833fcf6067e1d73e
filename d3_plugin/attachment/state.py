"""Whether a saved state is one that an attached D³ can go on from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from d3_plugin.distillation.settings import SCORING
from d3_plugin.errors import HostError, Problems


def check_state(state: Any, own: Mapping[str, Any]) -> None:
    """``state`` has the parts of ``own``, of the same settings, classes and shapes.

    Settings that training does not depend on may differ; they are not taken from the state.

    Args:
        state: what the user gives to ``D3.load_state_dict``.
        own: what ``state_dict()`` of that D³ returns now.

    Raises:
        HostError: it does not; lists what differs.
    """
    if not isinstance(state, Mapping):
        raise HostError(f"a state is what state_dict() returned, got {type(state).__name__}")
    problems = Problems("this state does not fit; attach with the same data and settings first")
    for part in sorted(own):
        if part not in state:
            problems.add(f"part {part!r} is missing")
        elif not _is_like(state[part], own[part]):
            problems.add(f"part {part!r} is a {type(state[part]).__name__}")
    problems.raise_as(HostError)
    for name, now in own["settings"].items():
        if name in SCORING:
            continue
        was = state["settings"].get(name)
        same = isinstance(was, (int, float, str)) and was == now
        problems.check(same, f"setting {name} was {was!r}, is {now!r}")
    seen = state["seen_classes"].tolist()
    problems.check(seen == own["seen_classes"].tolist(), f"the seen classes were {seen[:20]}")
    before, after = state["distiller"], own["distiller"]
    for name in sorted(before.keys() | after.keys(), key=str):
        pair = before.get(name), after.get(name)
        same = all(isinstance(each, Tensor) for each in pair) and pair[0].shape == pair[1].shape
        problems.check(same, f"tensor {name} is absent or of another shape")
    problems.raise_as(HostError)


def _is_like(value: Any, own: Any) -> bool:
    if isinstance(own, int):
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if isinstance(own, Tensor):  # its values are read
        return isinstance(value, Tensor) and not value.is_sparse and not value.is_meta
    return isinstance(value, Mapping)
