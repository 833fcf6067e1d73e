"""Apple GPUs have no float64, and a random generator of their own; both are emulated on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from d3_plugin import D3Settings
from d3_plugin.data import GZSLData
from d3_plugin.experiments.run import execute
from d3_plugin.experiments.run_identity import Run
from d3_plugin.hosts.isolation import RandomStream, global_streams, set_global_streams
from tests.experiments import tiny
from tests.toys import ScriptHost, VAEHost, attach


class OnCPU(Tensor):
    """What was brought to the CPU, and what is made of that."""


def is_place(given: object) -> bool:
    """What ``.to()`` takes as its first argument and may be the GPU."""
    return not isinstance(given, (torch.dtype, OnCPU))


class NoFloat64(TorchFunctionMode):
    """Plain tensors stand for those on the GPU."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not isinstance(result, Tensor):
            return result
        if func is Tensor.cpu or not any(isinstance(a, Tensor) for a in args):
            made_here = result.dtype == torch.float64 and "device" not in kwargs
            return result.as_subclass(OnCPU) if func is Tensor.cpu or made_here else result
        if func is Tensor.to and ("device" in kwargs or is_place(args[1])):
            result = result.as_subclass(Tensor)
        if result.dtype == torch.float64 and not isinstance(result, OnCPU):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return result


def test_the_emulation_tells_apart() -> None:
    rows = torch.ones(2)
    with NoFloat64():
        assert (rows.cpu().double() + 1).to(rows).dtype == torch.float32
        for wrong in (
            lambda: rows.double(),
            lambda: rows.to(torch.float64),
            lambda: rows.sum(dtype=torch.float64),
            lambda: rows.cpu().double().to(rows.device),
        ):
            with pytest.raises(TypeError, match="float64"):
                wrong()


@pytest.mark.parametrize("known", ["labels", "attributes", "nothing", "hook"])
def test_a_script(toy_data: GZSLData, known: str) -> None:
    with NoFloat64():
        host = ScriptHost(toy_data)
        d3 = attach(host, mode="hook" if known == "hook" else "loss")
        for _ in range(3):
            host.critic_step()
            loss = host.generator_loss()
            batch = {
                "labels": (host.input_res, host.input_label),
                "attributes": (host.input_res, None, host.data.attributes[host.input_label]),
            }
            if known != "hook":
                loss = loss + d3.loss(*batch.get(known, ()))
            loss.backward()
            host.optimizer_g.step()
        assert d3.steps == 3
        assert 0 <= d3.evaluate().metrics.ausuc <= 1
        d3.load_state_dict(d3.state_dict())


def test_a_vae_script(toy_data: GZSLData) -> None:
    with NoFloat64():
        host = VAEHost(toy_data)
        d3 = host.attach()
        d3.loss().backward()
        d3.evaluate()


@pytest.mark.parametrize(
    ("adapter", "d3"),
    [
        ("fclswgan", D3Settings.released(**tiny.D3)),
        ("fclswgan", D3Settings(weight=0.01, **tiny.D3)),
        ("tfvaegan", D3Settings(weight=0.01, **tiny.D3)),
        ("diffusion", None),
        ("diffusion", D3Settings(weight=0.01, **tiny.D3)),
    ],
)
def test_a_run_of_the_commands(adapter: str, d3: D3Settings | None) -> None:
    host = {name: tiny.HOST[name] for name in ("steps", "hidden", "synthetic_per_class")}
    with NoFloat64():
        (done,) = execute([Run(adapter, "digits-1", "", 0, "test", "test", host, d3, 1, "cpu")])
    assert 0 <= done.evaluation.metrics.ausuc <= 1


def test_the_random_stream_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator that stands for ``torch.mps``'s."""
    source = torch.Generator().manual_seed(1)
    monkeypatch.setattr(torch.mps, "_get_default_mps_generator", lambda: source)
    device = torch.device("mps")

    def draw() -> float:
        return torch.rand((), generator=source).item()

    kept = global_streams(device)
    alone = [draw(), draw()]
    set_global_streams(kept, device)
    stream, first = RandomStream(0, device), draw()
    with stream:
        inside = [draw()]
    with stream:
        inside.append(draw())
    assert [first, draw()] == alone
    other = RandomStream(1, device)
    other.load_state_dict(stream.state_dict())
    with stream:
        following = draw()
    with other:
        assert draw() == following
    assert len({*alone, *inside, following}) == 5
