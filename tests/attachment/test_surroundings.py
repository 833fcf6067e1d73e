"""``attach``, ``loss`` and the other methods give the same numbers whatever surrounds the call."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import d3_plugin
from d3_adapters.fclswgan import FCLSWGANSettings, FCLSWGANTrainer
from d3_plugin import D3, HostError
from d3_plugin.data import GZSLData
from d3_plugin.hosts.isolation import plain_pytorch
from tests.surroundings import SURROUNDINGS, default_device, default_dtype
from tests.toys import SMALL, PlainGenerator, ScriptHost, attach, parts_of

IN_THE_LOOP = set(SURROUNDINGS) - {"inference mode", "no_grad", "autocast"}

surroundings = pytest.mark.parametrize("name", SURROUNDINGS)
pytestmark = [
    pytest.mark.filterwarnings("ignore:Anomaly Detection"),
    pytest.mark.filterwarnings("ignore:D³ has made no step"),
    pytest.mark.filterwarnings("ignore:no gradient can reach"),
    pytest.mark.filterwarnings("ignore:loss\\(\\) was called where"),
]


def global_state() -> list[Any]:
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002
    return [
        torch.get_rng_state().tolist(),
        str(numpy),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.is_anomaly_enabled(),
    ]


def numbers(d3: D3) -> list[Tensor]:
    """The teacher, and three steps of the student."""
    for _ in range(3):
        d3.loss()
    return [v.clone() for v in d3.distiller.state_dict().values()]


def script(data: GZSLData, name: str | None) -> list[Tensor]:
    host = ScriptHost(data)
    with SURROUNDINGS[name]() if name else nullcontext():
        before = global_state() if name != "device context" and name != "default device" else []
        d3 = attach(host)
        assert not before or global_state() == before
    return numbers(d3)


@surroundings
def test_attach_to_a_script(toy_data: GZSLData, name: str) -> None:
    for one, other in zip(script(toy_data, None), script(toy_data, name), strict=True):
        assert torch.equal(one, other)


def trainer(data: GZSLData, name: str | None) -> list[Tensor]:
    host = FCLSWGANTrainer(data, FCLSWGANSettings(hidden=8))
    with SURROUNDINGS[name]() if name else nullcontext():
        d3 = d3_plugin.attach(host, settings=SMALL, mode="loss")
    return numbers(d3)


@surroundings
def test_attach_to_a_trainer(toy_data: GZSLData, name: str) -> None:
    for one, other in zip(trainer(toy_data, None), trainer(toy_data, name), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", sorted(IN_THE_LOOP))
@pytest.mark.parametrize("given", ["labels", "attributes", "nothing"])
def test_loss(toy_data: GZSLData, name: str, given: str) -> None:
    found = []
    for context in (nullcontext, SURROUNDINGS[name]):
        host = ScriptHost(toy_data)
        d3 = attach(host)
        host.sample()
        batch = {
            "labels": (host.input_res, host.input_label),
            "attributes": (host.input_res, None, host.data.attributes[host.input_label]),
            "nothing": (),
        }[given]
        with context():
            for _ in range(11):
                loss = d3.loss(*batch)
            loss.backward()
        gradients = [p.grad for p in host.net_g.parameters()]
        values = [d3.values[n] for n in sorted(d3.values)]
        found.append([loss, *gradients, *values, *d3.distiller.state_dict().values()])
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@surroundings
def test_state_of_a_run(toy_data: GZSLData, name: str) -> None:
    d3, other = attach(ScriptHost(toy_data)), attach(ScriptHost(toy_data), seed=8)
    d3.loss()
    with SURROUNDINGS[name]():
        other.load_state_dict(d3.state_dict())
    for one, two in zip(numbers(d3), numbers(other), strict=True):
        assert torch.equal(one, two)


def test_threads(toy_data: GZSLData) -> None:
    """Each makes its own D³; the global streams stay where they are."""
    hosts = [ScriptHost(toy_data) for _ in range(4)]
    expected = numbers(attach(ScriptHost(toy_data)))
    before, found, errors = global_state(), {}, []

    def run(position: int) -> None:
        try:
            found[position] = numbers(attach(hosts[position]))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert global_state() == before
    for values in found.values():
        assert all(map(torch.equal, values, expected))


def test_a_script_that_works_in_double_precision(toy_data: GZSLData) -> None:
    """Its functions make double-precision noise, because its default is that of its generator."""
    net = PlainGenerator().double()
    made = []

    def synthesize(class_ids: Tensor, attributes: Tensor) -> Tensor:
        made.append(torch.randn(len(attributes), 5))
        return net(made[-1], attributes)

    with default_dtype(torch.float64):
        d3 = d3_plugin.attach(**parts_of(net, toy_data), synthesize=synthesize)
        d3.loss().backward()
        d3.evaluate()
    assert {noise.dtype for noise in made} == {torch.float64}


def test_a_default_device_of_the_generators_kind_stays() -> None:
    net = PlainGenerator().to("meta")
    with default_device("meta"):
        with plain_pytorch(net):
            assert torch.zeros(1).device.type == "meta"
        with plain_pytorch():
            assert torch.zeros(1).device.type == "cpu"


def test_loss_in_inference_mode_is_refused(host: ScriptHost) -> None:
    with torch.inference_mode(), pytest.raises(HostError, match="not under torch"):
        attach(host).loss()
