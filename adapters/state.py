"""What a trainer's ``state_dict()`` is made of."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any


def state_of(trainer: Any, parts: Sequence[str]) -> dict[str, Any]:
    """The states of the named networks and optimisers, and a copy of the history."""
    states = {name: getattr(trainer, name).state_dict() for name in parts}
    return {**states, "history": copy.deepcopy(trainer.history)}


def load_state(trainer: Any, parts: Sequence[str], state: Mapping[str, Any]) -> None:
    """Put back what :func:`state_of` gave.

    Raises:
        ValueError: parts are missing; lists them.
        RuntimeError: a network has other shapes.
    """
    missing = [name for name in (*parts, "history") if name not in state]
    if missing:
        raise ValueError(f"not a state of {type(trainer).__name__}: it lacks {', '.join(missing)}")
    for name in parts:
        getattr(trainer, name).load_state_dict(state[name])
    trainer.history = copy.deepcopy(state["history"])
