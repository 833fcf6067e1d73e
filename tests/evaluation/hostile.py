"""Classifier files that were written to do harm, or to load as something else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import torch

from d3_plugin.evaluation.classifier_format import packed

ROWS = {"value": "rows"}
RIGHT: dict[str, Any] = {
    "name": "x",
    "class_names": ["a", "b"],
    "trained_on": [1.0, 1.0, 0.0, 1.0],
    "steps": [["out", "aten.mul.Tensor", [ROWS, 1.0], {}]],
    "result": "out",
}
CENTER = {"center": torch.zeros(2)}


def step(operation: object, *args: Any, name: Any = "x", **named: Any) -> list[Any]:
    return [name, operation, list(args), named]


STEPS: dict[str, list[Any]] = {
    "attrgetter": [step("attrgetter", "system")],
    "call": [step("<built-in function call>", {"setting": "os"}, "touch x")],
    "methodcaller": [step("methodcaller", "unlink")],
    "getattr": [step("getattr", ROWS, "__class__")],
    "dunder": [step("aten.__class__.__init__", ROWS)],
    "load": [step("torch.load", "x.pt")],
    "torch.os": [step("add", {"setting": "os"}, 1)],
    "in place": [step("aten.mul_.Tensor", ROWS, 0.0)],
    "zero": [step("aten.zero_.default", ROWS)],
    "set": [step("aten.set_.source_Tensor", ROWS, ROWS)],
    "copy": [step("aten.copy_.default", ROWS, ROWS)],
    "resize": [step("aten.resize_.default", ROWS, [10**6, 10**6])],
    "index_put": [step("aten.index_put_.default", ROWS, [None], 0.0)],
    "out variant": [step("aten.mul.out", ROWS, 2.0, out=ROWS)],
    "out argument": [step("aten.mul.Tensor", ROWS, 2.0, out=ROWS)],
    "file": [step("aten.from_file.default", "/etc/passwd")],
    "random": [step("aten.rand_like.default", ROWS)],
    "uninitialised": [step("aten.empty_like.default", ROWS)],
    "empty": [step("aten.empty.memory_format", [2, 2])],
    "zeros": [step("aten.zeros.default", [10**6, 10**6])],
    "full": [step("aten.full.default", [10**6, 10**6], 0.0)],
    "full by name": [step("aten.full.default", size=[10**6, 10**6], fill_value=0.0)],
    "arange": [step("aten.arange.start_step", 0, 1e12)],
    "tiny steps": [step("aten.arange.start_step", 0, 1, 1e-12)],
    "repeat": [step("aten.repeat.default", ROWS, [10**6, 10**6])],
    "pad": [step("aten.constant_pad_nd.default", ROWS, [0, 10**12], 0.0)],
    "outer product": [
        step("aten.arange.start_step", 0, 2**25, name="a"),
        step("aten.unsqueeze.default", {"value": "a"}, 1, name="b"),
        step("aten.mul.Tensor", {"value": "a"}, {"value": "b"}),
    ],
    "matrix product": [
        step("aten.full.default", [2**25, 1], 1.0, name="a"),
        step("aten.permute.default", {"value": "a"}, [1, 0], name="b"),
        step("aten.mm.default", {"value": "a"}, {"value": "b"}),
    ],
    "doubling": [
        step("aten.repeat.default", {"value": f"v{i}"}, [2, 2], name=f"v{i + 1}") for i in range(40)
    ],
    "powers": [
        step("mul", {"value": f"v{i}"}, {"value": f"v{i}"}, name=f"v{i + 1}") for i in range(10**4)
    ],
    "long list": [step("mul", [1], 10**12)],
    "steps": [step("aten.neg.default", ROWS)] * 20_000,
    "device": [step("aten._to_copy.default", ROWS, device="cuda:0")],
    "word": [step("aten.div.Tensor_mode", ROWS, ROWS, rounding_mode="__import__")],
    "itself": [step("aten.neg.default", {"value": "x"})],
    "unknown value": [step("aten.neg.default", {"value": "y"})],
    "unknown setting": [step("aten._to_copy.default", ROWS, dtype={"setting": "load"})],
    "two keys": [step("aten.neg.default", {"value": "rows", "setting": "float32"})],
    "no name": [step("aten.neg.default", ROWS, name=None), step("aten.neg.default", {"value": []})],
    "list name": [step("aten.neg.default", ROWS, name=[])],
    "unhashable": [step(["aten.neg.default"], ROWS)],
    "no arguments": [["x", "aten.neg.default"]],
    "no step": [None],
    "not steps": None,  # type: ignore[dict-item]
}
FIELDS: dict[str, dict[str, Any]] = {
    "result elsewhere": {"result": "y"},
    "result is no name": {"result": ["out"]},
    "result of no shape": {"steps": [step("aten.sum.dim_IntList", ROWS, [1], name="out")]},
    "stored scores": {"steps": [step("aten.full.default", [3, 2], 1.0, name="out")]},
    "name": {"name": 3},
    "no classes": {"class_names": []},
    "class ids": {"class_names": [1, 2]},
    "three classes": {"class_names": ["a", "b", "c"]},
    "figures": {"trained_on": [1.0, float("nan"), 0.0, 1.0]},
    "few figures": {"trained_on": [1.0]},
    "words for figures": {"trained_on": ["a", "b", "c", "d"]},
}
TENSORS: dict[str, dict[str, Any]] = {
    "no center": {},
    "infinite center": {"center": torch.tensor([1.0, torch.inf])},
    "whole center": {"center": torch.zeros(2, dtype=torch.int64)},
    "square center": {"center": torch.zeros(2, 2)},
    "empty center": {"center": torch.zeros(0)},
    "wide center": {"center": torch.zeros(3)},
    "scaling of another width": {**CENTER, "scaling": torch.ones(2, 3)},
    "NaN in scaling": {**CENTER, "scaling": torch.full((2, 2), torch.nan)},
}


def right() -> bytes:
    return packed(RIGHT, CENTER)


def files() -> Iterator[tuple[str, bytes]]:
    """Each with a right checksum."""
    start = [step("aten.sym_size.int", ROWS, 1, name="v0")]
    for name, steps in STEPS.items():
        both = steps if steps is None else [*start, *steps, *RIGHT["steps"]]
        if name == "doubling":
            both = [step("aten.clone.default", ROWS, name="v0"), *steps, *RIGHT["steps"]]
        yield name, packed({**RIGHT, "steps": both}, CENTER)
    for name, fields in FIELDS.items():
        yield name, packed({**RIGHT, **fields}, CENTER)
    for name, tensors in TENSORS.items():
        yield name, packed(RIGHT, tensors)
    for field in RIGHT:
        rest = {key: value for key, value in RIGHT.items() if key != field}
        yield f"without {field}", packed(rest, CENTER)
    deep = b"[" * 100_000
    whole = right()
    _, header, raw = whole.split(b"\n", 2)
    yield "cut off", whole[:-1]
    yield "longer", whole + b"x"
    yield "deep", _signed(deep + b"\n" + raw)
    yield "list", _signed(b"[]\n" + raw)
    for kind in (["float32", [10**12]], ["float32", [-1, -2]], ["os", [2]], ["float32", ["2"]], 1):
        tensors = {**json.loads(header), "tensors": {"center": kind}}
        yield f"tensor {kind}", _signed(json.dumps(tensors).encode() + b"\n" + raw)


def _signed(body: bytes) -> bytes:
    return b"d3_plugin classifier 2 " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body
