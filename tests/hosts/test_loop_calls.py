"""The loop's generator calls are watched, and nothing notices it."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from d3_plugin.hosts.loop_calls import own_calls
from d3_plugin.hosts.loop_form import LoopForm
from tests.hosts.watched import NOISE, Problem, Z


@pytest.fixture
def problem() -> Problem:
    torch.manual_seed(0)
    return Problem(torch.rand(10, 26) + 0.1)


class Small(nn.Module):
    """One that can be pickled and compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(Z + 26, 4)

    def forward(self, noise: Tensor, attributes: Tensor) -> Tensor:
        return self.layer(torch.cat([noise, attributes], 1))


def saved(net: nn.Module) -> nn.Module:
    torch.save(net, file := io.BytesIO())
    assert b"d3_plugin" not in file.getvalue()
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "made", [copy.deepcopy, saved, AveragedModel, lambda net: pickle.loads(pickle.dumps(net))]
)
def test_copies_are_not_watched(made: Callable[[nn.Module], nn.Module], problem: Problem) -> None:
    net = Small()
    calls = LoopForm(net, problem.data)
    twin, given = made(net), (torch.randn(64, Z), problem.batch()[1])
    assert torch.equal(twin(*given), net.layer(torch.cat(given, 1)))
    assert calls.form(now=True) is None
    assert b"d3_plugin" not in pickle.dumps(copy.deepcopy(net)).replace(__name__.encode(), b"")
    net(*given)
    assert calls.form(now=True) is not None


@pytest.mark.parametrize("watched", ["compiled", "inner"])
def test_compiled_generator(watched: str, problem: Problem) -> None:
    """Nothing is compiled again, and there is no break in the graph; a compiled one is seen."""
    torch._dynamo.reset()
    compiled = 0

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        nonlocal compiled
        compiled += 1
        return graph.forward

    net = Small()
    fast = torch.compile(net, backend=backend, fullgraph=True)
    calls = LoopForm(fast if watched == "compiled" else net, problem.data)
    for _ in range(4):
        fast(torch.randn(64, Z), problem.batch()[1])
    calls.remove()
    fast(torch.randn(64, Z), problem.batch()[1])
    assert compiled == 1
    seen = f"generator({NOISE}, attributes)" if watched == "compiled" else "None"
    assert str(calls.form()) == seen


def test_compiled_step(problem: Problem) -> None:
    """The hook is in the graph as nothing at all; a copy's, too."""
    torch._dynamo.reset()
    net = Small()
    calls = LoopForm(net, problem.data)
    for each in (net, copy.deepcopy(net)):
        step = torch.compile(lambda z, a, g=each: g(z, a).sum(), backend="eager", fullgraph=True)
        step(torch.randn(64, Z), problem.batch()[1])
    assert calls.form(now=True) is None


def test_scripted_generator(problem: Problem) -> None:
    """It takes no hooks."""
    net = torch.jit.script(Small())
    calls = LoopForm(net, problem.data)
    net(torch.randn(64, Z), problem.batch()[1])
    assert calls.form(now=True) is None
    calls.remove()


def test_one_process_of_several(problem: Problem, tmp_path: Path) -> None:
    """In DistributedDataParallel and DataParallel."""
    store = f"file://{tmp_path}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        for wrapper in (nn.parallel.DistributedDataParallel, nn.DataParallel):
            wrapped = wrapper(Small())
            calls = LoopForm(wrapped, problem.data)
            wrapped(torch.randn(64, Z), problem.batch()[1]).sum().backward()
            assert str(calls.form()) == f"generator({NOISE}, attributes)"
    finally:
        torch.distributed.destroy_process_group()


def test_nothing_of_the_loop_changes(problem: Problem) -> None:
    """No random number, flag or weight; the arguments are not kept alive."""
    torch.manual_seed(3)
    given = torch.randn(64, Z, requires_grad=True), problem.batch()[1]
    state = torch.get_rng_state()
    net = Small()
    keys, state = list(net.state_dict()), torch.get_rng_state()
    calls = LoopForm(net, problem.data)
    out = net(*given)
    calls.form(now=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert list(net.state_dict()) == keys
    assert torch.equal(out, net.layer(torch.cat(given, 1)))


def test_buffers_that_the_loop_overwrites(problem: Problem) -> None:
    noise, given = torch.empty(64, Z), torch.empty(64, 26)
    for _ in range(10):
        given.copy_(problem.batch()[1])
        problem.net(noise.normal_(0, 2), given)
        noise.zero_()
    assert str(problem.form()) == "generator(noise (N, 10) of normal(0, 2), attributes)"


def test_first_step(problem: Problem) -> None:
    """One call is enough; all are looked at again after 2, 4, 8, ... calls."""
    assert problem.calls.form() is None
    problem.net(problem.batch()[1], torch.randn(64, Z))
    first = problem.calls.form()
    assert str(first) == f"generator(attributes, {NOISE})"
    problem.net(problem.batch()[1], torch.randn(64, Z))
    second = problem.calls.form()
    assert second is not first
    problem.net(problem.batch()[1], torch.randn(64, Z))
    assert problem.calls.form() is second


def test_own_calls_do_not_count(problem: Problem) -> None:
    """In no thread: DataParallel calls its replicas in threads of its own."""
    with own_calls():
        problem.net(problem.batch()[1])
        thread = threading.Thread(target=problem.net, args=(problem.batch()[1],))
        thread.start()
        thread.join()
    assert problem.calls.form(now=True) is None


def test_watching_ends(problem: Problem) -> None:
    """With the loop's own synthesis in the form of its training."""
    for _ in range(10):
        problem.net(torch.randn(64, Z), problem.batch()[1])
    assert problem.form().training is None
    assert len(problem.net._forward_pre_hooks) == 1
    with torch.no_grad():
        problem.net(torch.randn(40, Z), problem.data.attributes[problem.data.unseen_classes[:1]])
    assert problem.form().training is True
    assert len(problem.net._forward_pre_hooks) == 0
