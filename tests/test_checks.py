"""One checker of values against types: of arguments, of settings, and of what files hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

import numpy as np
import pytest

from d3_plugin import InputError
from d3_plugin.checks import (
    Count,
    Measured,
    Positive,
    checked,
    first_misfits,
    setting_problems,
)


class Entry(TypedDict):
    step: int
    loss: Measured


class Content(TypedDict):
    name: str
    entries: list[Entry]
    best: Entry | None
    shares: dict[str, Positive]


ENTRY = {"step": 1, "loss": math.nan}
WHOLE = {"name": "x", "entries": [ENTRY], "best": None, "shares": {"a": 0.5}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"best": ENTRY}, ""),
        ({"name": 3}, "name must be a str, got 3"),
        ({"best": 3}, "best must be a dict or None, got 3"),
        ({"best": {"step": 1}}, "best.loss is missing"),
        ({"entries": [ENTRY, {**ENTRY, "step": "x"}]}, "entries[1].step must be an int, got 'x'"),
        ({"entries": [{**ENTRY, "los": 1}]}, "entries[0] has no entry 'los'; did you mean 'loss'?"),
        ({"shares": {"a": 0}}, "shares.a must be a finite number, above 0, got 0"),
        ({"shares": {"a": math.inf}}, "shares.a must be a finite number, above 0, got inf"),
        ({"nam": 1}, "it has no entry 'nam'; did you mean 'name'?"),
    ],
)
def test_what_a_file_holds(change: dict[str, Any], said: str) -> None:
    assert first_misfits({**WHOLE, **change}, Content) == said
    if said.startswith(("name", "best", "entries")):
        assert first_misfits({**WHOLE, **change}, Content, "top") == f"top.{said}"


@dataclass
class Settings:
    steps: Count = 1
    lr: float = 0.1
    kind: Literal["a", "b"] = "a"
    sizes: Iterable[int] = ()
    width: Count | None = None
    noted: Annotated[int, {"unit": "layers"}, "at least 1"] = 3
    function: Callable[[], None] | None = None


@pytest.mark.parametrize(
    ("name", "good", "bad", "said"),
    [
        ("steps", np.int64(3), True, "an int, at least 1, got True"),
        ("steps", 1, 2**31, "an int, at least 1, got 2147483648"),
        ("lr", np.float32(1), math.nan, "a finite number, got nan"),
        ("kind", "b", "c", "one of a, b, got 'c'"),
        ("sizes", (1, 2), "12", "a list of ints, got '12'"),
        ("width", None, 0, "an int, at least 1 or None, got 0"),
        ("noted", 1, 0, "an int, at least 1, got 0"),
        ("function", print, 3, "a function or None, got 3"),
    ],
)
def test_settings(name: str, good: object, bad: object, said: str) -> None:
    assert not setting_problems("s", Settings, {name: good}).found
    assert setting_problems("s", Settings, {name: bad}).found == [f"{name} must be {said}"]


def test_every_problem_is_listed() -> None:
    found = setting_problems("s", Settings, {"steps": 0, "sizes": [1, "x"], "stepz": 1}).found
    assert found[1:] == [
        "sizes[1] must be an int, got 'x'",
        "no setting 'stepz'; did you mean 'steps'?",
    ]

    @checked
    def function(rows: Count, name: str = "") -> int:
        return rows

    assert function(2, name="x") == 2
    with pytest.raises(InputError, match=r"(?s)function: 2 problems.*rows must.*name must"):
        function(0, name=3)  # type: ignore[arg-type]
