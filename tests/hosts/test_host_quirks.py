"""What public loops do that an add-on could trip over, each imitated."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from d3_plugin import D3Warning, HostError
from d3_plugin.data import GZSLData
from tests.toys import ScriptHost, VAEHost, assert_equal, attach


@pytest.mark.parametrize("mode", ["loss", "hook"])
def test_encoder_stepped_before_the_generator_at_weight_zero(toy_data: GZSLData, mode: str) -> None:
    """TF-VAEGAN, FREE: another optimiser between backward and the generator's step."""
    alone, beside = VAEHost(toy_data), VAEHost(toy_data)
    torch.manual_seed(1)
    alone.run(5)
    alone_state = alone.state()
    torch.manual_seed(1)
    d3 = beside.attach(weight=0.0, mode=mode)
    beside.run(5, d3 if mode == "loss" else None)
    assert_equal(alone_state, beside.state())
    assert alone.printed == beside.printed
    assert d3.steps == 5


def test_encoder_stepped_before_the_generator_both_forms_agree(toy_data: GZSLData) -> None:
    """The loss form adds its gradient before the encoder's step, the hook after it."""
    states = []
    for mode in ("loss", "hook"):
        host = VAEHost(toy_data)
        d3 = host.attach(mode=mode)
        host.critic_step()
        loss, _ = host.generator_loss()
        (loss if mode == "hook" else loss + d3.loss()).backward()
        for name in "eg":
            host.optimizers[name].step()
        states.append({k: v for k, v in host.state().items() if k[0] in "eg"})
    torch.testing.assert_close(*states, rtol=1e-5, atol=1e-7)
    baseline = VAEHost(toy_data)
    baseline.run(1)
    assert not torch.equal(baseline.net_g.fc3.bias, states[0]["g.fc3.bias"])
    assert torch.equal(baseline.net_e.weight, states[0]["e.weight"])


def test_frozen_decoder_gets_nothing_and_the_feedback_does(toy_data: GZSLData) -> None:
    host = VAEHost(toy_data)
    d3 = host.attach()
    host.critic_step()
    host.generator_loss()
    host.net_dec.zero_grad()
    d3.loss(host.input_res, attributes=host.input_att).backward()
    assert all(p.grad is None for p in host.net_dec.parameters())
    assert not any(p.requires_grad for p in host.net_dec.parameters())
    assert host.net_f.weight.grad.abs().max() > 0
    assert host.net_g.fc1.weight.grad.abs().max() > 0


@pytest.mark.parametrize("in_place", [False, True])
def test_loss_that_aliases_another(toy_data: GZSLData, in_place: bool) -> None:
    """``errG = vae_loss`` and ``+=``: what the host prints as the VAE's loss stays."""
    host = VAEHost(toy_data)
    d3 = host.attach()
    host.critic_step()
    loss, vae_loss = host.generator_loss()
    before = vae_loss.item()
    extra = d3.loss(host.input_res, attributes=host.input_att)
    total, value = d3.values["total"].item(), extra.item()
    if in_place:
        loss += extra
    else:
        loss = loss + extra
        assert vae_loss.item() == before
    extra = extra.detach().fill_(7)  # nothing of D³'s own is an alias of what it returned
    loss.backward()
    assert loss.item() == pytest.approx(before + value, rel=1e-6)
    assert d3.values["total"].item() == total
    assert host.net_g.fc1.weight.grad.abs().max() > 0


def test_buffers_overwritten_before_backward(toy_data: GZSLData) -> None:
    gradients = []
    for overwritten in (False, True):
        host = VAEHost(toy_data)
        d3 = host.attach()
        host.sample()
        loss = d3.loss(host.input_res, attributes=host.input_att)
        if overwritten:
            host.input_res.fill_(-1)
            host.input_att.fill_(-1)
        loss.backward()
        gradients.append(host.net_g.fc1.weight.grad)
    assert torch.equal(*gradients)


def test_generator_that_keeps_an_activation_with_its_graph(toy_data: GZSLData) -> None:
    """Such a module cannot be deep-copied; attach, loss and evaluate must not try."""
    host = VAEHost(toy_data)
    host.net_g(torch.zeros(2, 5), c=torch.zeros(2, 5))
    with pytest.raises(RuntimeError, match="Only Tensors created explicitly"):
        copy.deepcopy(host.net_g)
    d3 = host.attach(synthetic_per_class=5)
    d3.loss().backward()
    d3.evaluate()
    d3.state_dict()


def test_wrapped_generator(toy_data: GZSLData) -> None:
    """CE-GZSL on several GPUs: DataParallel, and an optimiser made of the wrapper's parameters."""
    results = []
    for wrapped in (False, True):
        host = VAEHost(toy_data)
        net = nn.DataParallel(host.net_g) if wrapped else host.net_g
        optimizer = torch.optim.Adam(net.parameters(), 1e-3)
        d3 = host.attach(generator=net, optimizer=optimizer, synthesize=None, modules=[])
        d3.loss().backward()
        results.append([p.grad for p in host.net_g.parameters()])
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_optimizer_of_the_encoder(toy_data: GZSLData) -> None:
    """In TF-VAEGAN and FREE the one called ``optimizer`` is the encoder's."""
    host = VAEHost(toy_data)
    with pytest.raises(HostError, match=r"fc1\.weight.*critic"):
        host.attach(optimizer=host.optimizers["e"])


def test_generator_frozen_at_our_line(toy_data: GZSLData) -> None:
    host = VAEHost(toy_data)
    d3 = host.attach()
    host.sample()
    host.net_g.requires_grad_(False)  # the critic's step of D3GZSL
    with pytest.warns(D3Warning, match="no gradient can reach the generator"):
        loss = d3.loss(host.input_res, attributes=host.input_att)
    assert not loss.requires_grad
    assert not any(p.requires_grad for p in host.net_g.parameters())


def test_host_classifier_trained_after_attach_is_the_same(toy_data: GZSLData) -> None:
    """f-CLSWGAN trains ``pretrain_cls`` between the optimisers and the loop: from which numbers?"""
    drawn = []
    for with_d3 in (False, True):
        host = ScriptHost(toy_data)
        if with_d3:
            attach(host)
        drawn.append((nn.Linear(3, 3).weight, torch.randperm(50), torch.randn(2)))
    for one, other in zip(*drawn, strict=True):
        assert torch.equal(one, other)


def test_uninitialised_labels(toy_data: GZSLData) -> None:
    """``map_label`` leaves labels of other classes as the memory was: any number at all."""
    host = ScriptHost(toy_data)
    d3 = attach(host, labels_are="mapped")
    labels = torch.searchsorted(toy_data.seen_classes, toy_data.train_labels[:8])
    for garbage in (94388301298432, -7):
        wrong = labels.clone()
        wrong[3] = garbage
        with pytest.raises(HostError, match=f"{garbage}.*not mapped"):
            d3.loss(toy_data.train_features[:8], wrong)
    d3.loss(toy_data.train_features[:8], labels)


def test_learning_rate_decay_over_param_groups(toy_data: GZSLData) -> None:
    """CE-GZSL, D3GZSL: the host scales its rates; D³'s heads are not in its groups."""
    host = ScriptHost(toy_data)
    d3 = attach(host)
    host.run(1, d3)
    assert sum(len(g["params"]) for g in host.optimizer_g.param_groups) == len(
        list(host.net_g.parameters())
    )
    for group in host.optimizer_g.param_groups:
        group["lr"] *= 0.99
    host.run(1, d3)
    assert [g["lr"] for g in d3._loss.student.optimizer.param_groups] == [d3.settings.student_lr]
