"""Data, generators and defaults of other dtypes; outputs that are not features; threads."""

from __future__ import annotations

import threading
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from d3_plugin import HostError
from d3_plugin.data import GZSLData
from tests.toys import ScriptHost, assert_equal, attach, toy_problem


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_data_of_another_dtype_are_trained_on_and_scored(
    toy_data: GZSLData, dtype: torch.dtype
) -> None:
    parts = {f.name: getattr(toy_data, f.name) for f in fields(toy_data)}
    floats = {k: v.to(dtype) for k, v in parts.items() if getattr(v, "is_floating_point", bool)()}
    data = replace(toy_data, **floats)
    host = ScriptHost(data)
    d3 = attach(host)
    host.run(2, d3)
    assert 0 <= d3.evaluate().metrics.ausuc <= 1


def test_a_default_dtype_of_float64() -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        host = ScriptHost(toy_problem())
        d3 = attach(host)
        assert d3.loss().dtype == torch.float32
        assert 0 <= d3.evaluate().metrics.ausuc <= 1
    finally:
        torch.set_default_dtype(before)


OUTPUTS = {
    "complex": lambda rows: torch.complex(rows, rows),
    "sparse": lambda rows: rows.to_sparse(),
    "meta": lambda rows: rows.to("meta"),
    "integer": lambda rows: rows.detach().long(),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_outputs_that_are_no_features_are_refused(toy_data: GZSLData, kind: str) -> None:
    host = ScriptHost(toy_data)

    def synthesize(class_ids: Tensor, attributes: Tensor) -> Tensor:
        return OUTPUTS[kind](host.net_g(torch.randn_like(attributes), attributes))

    with pytest.raises(HostError, match=r"must return features \(2, 12\), got a "):
        attach(host, synthesize=synthesize)


def test_two_threads_draw_what_they_would_draw_alone(toy_data: GZSLData) -> None:
    def run(d3s: list[object]) -> None:
        threads = [
            threading.Thread(target=lambda d3=d3: [d3.loss() for _ in range(20)]) for d3 in d3s
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    ends = []
    for together in (False, True):
        d3s = [attach(ScriptHost(toy_data, seed), seed=seed) for seed in (1, 2)]
        before = torch.get_rng_state()
        for group in [d3s] if together else [[d3] for d3 in d3s]:
            run(group)
        assert torch.equal(before, torch.get_rng_state())
        ends.append(
            {
                f"{i}.{k}": v
                for i, d in enumerate(d3s)
                for k, v in d.state_dict()["distiller"].items()
            }
        )
    assert_equal(*ends)
