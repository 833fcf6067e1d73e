"""After Ctrl-C flags, modes, weights and hooks are the host's, and the next call works."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from d3_plugin.data import GZSLData
from tests.toys import ScriptHost, attach

pytestmark = [
    pytest.mark.filterwarnings("ignore:D³'s part of the generator's gradient"),
    pytest.mark.filterwarnings("ignore:D³ has made no step"),
    pytest.mark.filterwarnings("ignore:no gradient of the last"),
]


def state(host: ScriptHost) -> list[Any]:
    """Weights and buffers, gradients, flags, modes, hooks, and whether gradients are on."""
    nets = (host.net_g, host.net_d)
    tensors = [v.clone() for net in nets for v in net.state_dict().values()]
    tensors += [p.grad.clone() for net in nets for p in net.parameters() if p.grad is not None]
    return [*tensors, *host.traces(), torch.is_grad_enabled(), torch.get_default_dtype()]


def same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(one, other, strict=True)
    )


def traces_of_interrupts(wanted: int, host: ScriptHost, call: Callable[[], object]) -> int:
    """After how many of the wanted interrupts inside the call something was not as before."""
    call()
    started = time.perf_counter()
    call()
    longest = 1.2 * (time.perf_counter() - started)
    rng = np.random.default_rng(0)

    def interrupt(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    before_handler = signal.signal(signal.SIGALRM, interrupt)
    hit = traces = 0
    try:
        while hit < wanted:
            before = state(host)
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, longest))
                call()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                hit += 1
            traces += not same(before, state(host))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before_handler)
    call()
    return traces


def call_of(name: str, host: ScriptHost) -> Callable[[], object]:
    if name == "attach":
        return lambda: attach(host).detach()
    d3 = attach(host)
    host.run(2, d3)
    other = ScriptHost(host.data, seed=1).net_g
    calls: dict[str, Callable[[], object]] = {
        "loss": lambda: d3.loss(host.input_res, host.input_label),
        "evaluate": lambda: d3.evaluate(generator=other),
        "classifier": d3.classifier,
        "load_state_dict": lambda: d3.load_state_dict(d3.state_dict()),
    }
    return calls[name]


CALLS = {"loss": 100, "evaluate": 8, "attach": 10, "classifier": 10, "load_state_dict": 50}


@pytest.mark.parametrize("name", [name for name in CALLS if name != "classifier"])
def test_interrupts_leave_no_trace(toy_data: GZSLData, name: str) -> None:
    host = ScriptHost(toy_data)
    assert traces_of_interrupts(CALLS[name], host, call_of(name, host)) == 0


def test_torch_still_compiles_after_interrupts_of_classifier(toy_data: GZSLData) -> None:
    """An interrupted torch.export leaves a tracer behind, so Ctrl-C waits for its end."""
    host = ScriptHost(toy_data)
    assert traces_of_interrupts(4, host, call_of("classifier", host)) == 0
    linear = torch.nn.Linear(3, 2)
    compiled = torch.compile(linear, backend="aot_eager", fullgraph=True)
    compiled(torch.ones(4, 3)).sum().backward()
    assert linear.weight.grad is not None


@pytest.mark.parametrize("mode", ["loss", "hook"])
def test_interrupted_attach_removes_its_hooks(toy_data: GZSLData, mode: str) -> None:
    host = ScriptHost(toy_data)

    def progress(line: str) -> None:
        if line.startswith("D³ on script"):
            assert host.net_g._forward_pre_hooks
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attach(host, mode=mode, progress=progress)
    assert not host.net_g._forward_pre_hooks
    assert not host.optimizer_g._optimizer_step_pre_hooks


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_many_interrupts_leave_no_trace(toy_data: GZSLData, name: str) -> None:
    host = ScriptHost(toy_data)
    assert traces_of_interrupts(30 * CALLS[name], host, call_of(name, host)) == 0
