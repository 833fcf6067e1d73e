"""A KeyboardInterrupt inside ``loss()`` leaves the host's state as it was, wherever it comes."""

from __future__ import annotations

import random
import signal
import time
from typing import Any

import numpy as np
import pytest
import torch

from d3_plugin.data import GZSLData
from tests.toys import ScriptHost, attach


def state(host: ScriptHost) -> list[Any]:
    """What a step of D³ changes meanwhile: random streams, grad mode, buffers."""
    numpy = np.random.get_state()  # noqa: NPY002
    buffers = [buffer.clone() for buffer in host.net_g.buffers()]
    streams = [torch.get_rng_state(), torch.from_numpy(numpy[1].astype(np.int64))]
    return [*streams, *buffers, numpy[2:], random.getstate(), torch.is_grad_enabled()]


def same(one: list[Any], other: list[Any]) -> bool:
    return all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(one, other, strict=True)
    )


def traces_of_interrupts(wanted: int, data: GZSLData) -> int:
    """After how many of the wanted interrupts inside ``loss()`` something was not as before."""
    host = ScriptHost(data)
    d3 = attach(host)
    host.run(2, d3)
    started = time.perf_counter()
    d3.loss(host.input_res, host.input_label)
    longest = 1.2 * (time.perf_counter() - started)
    rng = np.random.default_rng(0)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before_handler = signal.signal(signal.SIGALRM, interrupt)
    hit = traces = 0
    try:
        while hit < wanted:
            np.random.randn()  # noqa: NPY002 - every other time a second number is waiting
            before = state(host)
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, longest))
                d3.loss(host.input_res, host.input_label)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                hit += 1
            traces += not same(before, state(host))
            torch.set_grad_enabled(True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before_handler)
    return traces


@pytest.mark.filterwarnings("ignore:D³'s part of the generator's gradient")
def test_interrupts_leave_no_trace(toy_data: GZSLData) -> None:
    assert traces_of_interrupts(150, toy_data) == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:D³'s part of the generator's gradient")
def test_three_thousand_interrupts_leave_no_trace(toy_data: GZSLData) -> None:
    assert traces_of_interrupts(3000, toy_data) == 0
