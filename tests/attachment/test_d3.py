"""The rules of the wrapper: what D³ adds to a host's loop, and what it must leave alone."""

from __future__ import annotations

import copy
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from d3_plugin import D3Settings, D3Warning, HostError, InputError
from d3_plugin.data import GZSLData
from d3_plugin.distillation.settings import CHANGEABLE
from tests.toys import SMALL, WEIGHT_ZERO, ScriptHost, assert_equal, attach


@pytest.mark.parametrize("mode", ["loss", "hook"])
def test_weight_zero_is_bit_identical(toy_data: GZSLData, device: torch.device, mode: str) -> None:
    alone = ScriptHost(toy_data, device=device)
    alone.run(6)
    alone_state = alone.state()
    beside = ScriptHost(toy_data, device=device)
    d3 = attach(beside, WEIGHT_ZERO, mode=mode)
    before = d3.distiller.student.embed[0].weight.clone()
    beside.run(6, d3 if mode == "loss" else None)
    assert_equal(alone_state, beside.state())
    assert torch.equal(torch.stack(alone.outputs), torch.stack(beside.outputs))
    assert not torch.equal(before, d3.distiller.student.embed[0].weight), "the student must learn"


@pytest.mark.filterwarnings("ignore:D³ has made no step")
@pytest.mark.parametrize("mode", ["loss", "hook"])
def test_attach_and_detach_leave_no_trace(
    toy_data: GZSLData, device: torch.device, mode: str
) -> None:
    host = ScriptHost(toy_data, device=device)
    host.net_d.requires_grad_(False)
    host.net_g.drop.eval()  # a mixed mode, which a plain .train() would not restore
    state, traces = host.state(), host.traces()
    d3 = attach(host, mode=mode)
    if mode == "loss":
        d3.loss()
    d3.evaluate()
    assert_equal(state, host.state())
    d3.detach()
    assert host.traces() == traces
    with pytest.raises(HostError, match="detached"):
        d3.loss()


def test_d3_changes_the_generator_and_only_it(toy_data: GZSLData) -> None:
    alone = ScriptHost(toy_data)
    alone.run(1)
    beside = ScriptHost(toy_data)
    beside.run(1, attach(beside))
    assert torch.equal(alone.net_d.weight, beside.net_d.weight)
    assert not torch.equal(alone.net_g.hidden.weight, beside.net_g.hidden.weight)


def test_gradient_is_that_of_the_weighted_terms(toy_data: GZSLData, device: torch.device) -> None:
    """Against autograd straight through synthesis, teacher and student."""
    host = ScriptHost(toy_data, device=device)
    host.net_g.eval()  # no dropout: the same rows again
    d3 = attach(host)
    host.sample()
    before = copy.deepcopy(d3.distiller)
    stream = copy.deepcopy(d3._loss.stream)
    loss = d3.loss(features=host.input_res, labels=host.input_label)
    got = torch.autograd.grad(loss, list(host.net_g.parameters()))

    with stream:
        drawn = torch.randint(2, (SMALL.synthetic_rows,), device=device)
        classes = host.data.unseen_classes[drawn]
        att = host.data.attributes[classes]
        synthetic = host.net_g(torch.randn_like(att), att)
    labels = torch.cat([classes, host.input_label])
    terms = before.terms(before.batch(synthetic, host.input_res, labels))
    expected = SMALL.weight * sum(terms.values())
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    wanted = torch.autograd.grad(expected, list(host.net_g.parameters()))
    for g, w in zip(got, wanted, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-5, atol=1e-8)
        assert w.abs().max() > 0


def test_loss_is_a_plain_scalar_with_no_way_to_the_heads(host: ScriptHost) -> None:
    d3 = attach(host)
    loss = d3.loss()
    assert loss.shape == ()
    loss.backward()
    assert all(p.grad is None for p in d3.distiller.parameters())
    assert all(p.grad is not None for p in host.net_g.parameters())


def test_two_losses_in_one_backward(host: ScriptHost) -> None:
    """Gradient accumulation: the student has moved on, the graphs must not mind."""
    d3 = attach(host)
    (d3.loss() + d3.loss()).backward()
    assert d3.steps == 2
    assert torch.isfinite(host.net_g.hidden.weight.grad).all()


def test_no_gradient_step_warns_once_and_the_student_learns(host: ScriptHost) -> None:
    d3 = attach(host)
    host.net_g.requires_grad_(False)
    before = d3.distiller.student.classify.weight.clone()
    with pytest.warns(D3Warning, match="no gradient can reach the generator"):
        loss = d3.loss()
    assert not loss.requires_grad
    assert not torch.equal(before, d3.distiller.student.classify.weight)
    with torch.no_grad():
        d3.loss()  # the filter turns a second warning into an error


def test_streams_are_restored_when_synthesis_fails(host: ScriptHost) -> None:
    calls = []

    def once(class_ids: torch.Tensor, attributes: torch.Tensor) -> torch.Tensor:
        calls.append(len(class_ids))
        if len(calls) > 2:  # the first two are trials in attach
            raise RuntimeError("out of noise")
        return host.net_g(torch.randn_like(attributes), attributes)

    d3 = attach(host, synthesize=once)
    state = host.state()
    with pytest.raises(RuntimeError, match="out of noise"):
        d3.loss()
    assert_equal(state, host.state())


def test_grad_scaler_explicit_form(toy_data: GZSLData, device: torch.device) -> None:
    gradients = []
    for scale in (None, 1024.0):
        host = ScriptHost(toy_data, device=device)
        d3 = attach(host)
        if scale is None:
            d3.loss().backward()
        else:
            scaler = torch.amp.GradScaler(device.type, init_scale=scale)
            scaler.scale(d3.loss()).backward()
            scaler.unscale_(host.optimizer_g)
        gradients.append([p.grad for p in host.net_g.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)


def test_autocast_host(toy_data: GZSLData, device: torch.device) -> None:
    host = ScriptHost(toy_data, device=device)
    d3 = attach(host)
    host.sample()
    with torch.autocast(device.type, dtype=torch.bfloat16):
        loss = d3.loss(features=host.input_res, labels=host.input_label)
    assert loss.dtype == torch.float32
    loss.backward()
    assert torch.isfinite(host.net_g.hidden.weight.grad).all()


def test_half_precision_features_keep_small_gradients(host: ScriptHost) -> None:
    """At weight 1e-6 a float16 gradient would be all zeros; a GradScaler's factor saves it."""
    settings = D3Settings(embedding_dim=8, teacher_epochs=3, weight=1e-6)
    d3 = attach(
        host, settings, synthesize=lambda ids, att: host.net_g(torch.randn_like(att), att).half()
    )
    (d3.loss() * 2.0**20).backward()
    assert (host.net_g.out.bias.grad != 0).all()


def test_the_weight_may_follow_a_schedule(host: ScriptHost) -> None:
    host.net_g.eval()
    d3 = attach(host)
    first = d3.loss(update=False).item()  # draws alike every time
    d3.settings = replace(d3.settings, weight=SMALL.weight / 2)
    assert d3.loss(update=False).item() == pytest.approx(first / 2)


@pytest.mark.parametrize("name", ["weight", "synthetic_rows", "real_rows"])
def test_settings_that_may_change_take_effect(toy_data: GZSLData, name: str) -> None:
    values = []
    for changed in (False, True):
        d3 = attach(ScriptHost(toy_data))
        if changed:
            other = getattr(SMALL, name) * 2
            d3.settings = replace(d3.settings, **{name: other})
            assert getattr(d3.settings, name) == other
        values.append(d3.loss().item())
    assert values[0] != values[1]


@pytest.mark.parametrize("name", [f.name for f in fields(D3Settings)])
def test_settings_that_have_no_effect_are_refused(host: ScriptHost, name: str) -> None:
    d3 = attach(host)
    other = next(v for v in OTHER[type(getattr(SMALL, name))] if accepted(name, v))
    settings = replace(SMALL, **{name: other})
    if name in CHANGEABLE:
        d3.settings = settings
        assert d3.settings == settings
        return
    with pytest.raises(InputError, match=f"^{name} cannot change.*attach again"):
        d3.settings = settings
    assert d3.settings == SMALL


OTHER = {
    float: (0.123,),
    int: (77,),
    bool: (True, False),
    str: (
        "random",
        "energy",
        "class",
        "host",
        "probabilities",
        "double_softmax",
        "bce",
        "contrastive",
    ),
}


def accepted(name: str, value: object) -> bool:
    try:
        return getattr(replace(SMALL, **{name: value}), name) != getattr(SMALL, name)
    except InputError:
        return False


@pytest.mark.parametrize("junk", [None, {"weight": 1.0}, 0.5, D3Settings])
def test_settings_that_are_none(host: ScriptHost, junk: object) -> None:
    d3 = attach(host)
    with pytest.raises(InputError, match=r"d3\.settings must be D3Settings"):
        d3.settings = junk
    d3.loss()


def test_settings_of_numpy_numbers() -> None:
    settings = D3Settings(weight=np.float32(0.5), synthetic_rows=np.int64(8))
    assert (type(settings.weight), type(settings.synthetic_rows)) == (float, int)
