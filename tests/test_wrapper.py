"""The rules of the wrapper: what D³ adds to a host's loop, and what it must leave alone."""

from __future__ import annotations

import copy

import pytest
import torch

import d3_plugin
from d3_plugin import D3, D3Settings, D3Warning, HostError
from d3_plugin.data import GZSLData
from tests.script_host import ScriptHost, assert_equal

SMALL = D3Settings(embedding_dim=8, teacher_epochs=3, synthetic_rows=10, real_rows=12, weight=0.5)


def attach(host: ScriptHost, settings: D3Settings = SMALL, **options: object) -> D3:
    return d3_plugin.attach(
        generator=host.net_g,
        optimizer=host.optimizer_g,
        data=host.data,
        settings=settings,
        seed=7,
        **options,
    )


def weight_zero() -> D3Settings:
    return D3Settings(embedding_dim=8, teacher_epochs=3, weight=0.0)


@pytest.mark.parametrize("mode", ["loss", "hook"])
def test_weight_zero_is_bit_identical(toy_data: GZSLData, mode: str) -> None:
    alone = ScriptHost(toy_data)
    alone.run(6)
    alone_state = alone.state()
    beside = ScriptHost(toy_data)
    d3 = attach(beside, weight_zero(), mode=mode)
    before = d3.distiller.student.embed[0].weight.clone()
    beside.run(6, d3 if mode == "loss" else None)
    assert_equal(alone_state, beside.state())
    assert torch.equal(torch.stack(alone.outputs), torch.stack(beside.outputs))
    assert not torch.equal(before, d3.distiller.student.embed[0].weight), "the student must learn"


@pytest.mark.parametrize("mode", ["loss", "hook"])
def test_attach_and_detach_leave_no_trace(toy_data: GZSLData, mode: str) -> None:
    host = ScriptHost(toy_data)
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


def test_detached_hook_mode_is_the_baseline_again(toy_data: GZSLData) -> None:
    alone = ScriptHost(toy_data)
    alone.run(2)
    alone_state = alone.state()
    beside = ScriptHost(toy_data)
    attach(beside, mode="hook").detach()
    beside.run(2)
    assert_equal(alone_state, beside.state())


def test_d3_changes_the_generator_and_only_it(toy_data: GZSLData) -> None:
    alone = ScriptHost(toy_data)
    alone.run(1)
    beside = ScriptHost(toy_data)
    beside.run(1, attach(beside))
    assert torch.equal(alone.net_d.weight, beside.net_d.weight)
    assert not torch.equal(alone.net_g.hidden.weight, beside.net_g.hidden.weight)


def test_gradient_is_that_of_the_weighted_terms(toy_data: GZSLData) -> None:
    """Against autograd straight through synthesis, teacher and student."""
    host = ScriptHost(toy_data)
    host.net_g.eval()  # no dropout: the same rows again
    d3 = attach(host)
    host.sample()
    before = copy.deepcopy(d3.distiller)
    stream = copy.deepcopy(d3._stream)
    loss = d3.loss(features=host.input_res, labels=host.input_label)
    got = torch.autograd.grad(loss, list(host.net_g.parameters()))

    with stream:
        drawn = torch.randint(2, (SMALL.synthetic_rows,))
        classes = toy_data.unseen_classes[drawn]
        att = toy_data.attributes[classes]
        synthetic = host.net_g(torch.randn_like(att), att)
    labels = torch.cat([classes, host.input_label])
    terms = before.terms(before.batch(synthetic, host.input_res, labels))
    expected = SMALL.weight * sum(terms.values())
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    wanted = torch.autograd.grad(expected, list(host.net_g.parameters()))
    for g, w in zip(got, wanted, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-5, atol=1e-8)
        assert w.abs().max() > 0


def test_explicit_form_and_hook_mode_give_the_same_gradient(toy_data: GZSLData) -> None:
    gradients = []
    for mode in ("loss", "hook"):
        host = ScriptHost(toy_data)
        d3 = attach(host, mode=mode)
        host.critic_step()
        loss = host.generator_loss()
        if mode == "loss":
            loss = loss + d3.loss()
        loss.backward()
        seen: list[torch.Tensor] = []
        host.optimizer_g.register_step_pre_hook(
            lambda o, a, k, seen=seen: seen.extend(p.grad for p in o.param_groups[0]["params"])
        )
        host.optimizer_g.step()
        gradients.append(seen)
    for explicit, hooked in zip(*gradients, strict=True):
        torch.testing.assert_close(explicit, hooked, rtol=1e-6, atol=1e-9)


def test_hook_mode_leaves_other_gradients_alone(toy_data: GZSLData) -> None:
    host = ScriptHost(toy_data)
    attach(host, mode="hook")
    host.critic_step()
    critic_grad = host.net_d.weight.grad.clone()
    host.generator_loss().backward()
    host.optimizer_g.step()
    assert torch.equal(critic_grad, host.net_d.weight.grad)


def test_loss_is_a_plain_scalar_with_no_way_to_the_heads(toy_data: GZSLData) -> None:
    host = ScriptHost(toy_data)
    d3 = attach(host)
    loss = d3.loss()
    assert loss.shape == ()
    loss.backward()
    assert all(p.grad is None for p in d3.distiller.parameters())
    assert all(p.grad is not None for p in host.net_g.parameters())


def test_two_losses_in_one_backward(toy_data: GZSLData) -> None:
    """Gradient accumulation: the student has moved on, the graphs must not mind."""
    host = ScriptHost(toy_data)
    d3 = attach(host)
    (d3.loss() + d3.loss()).backward()
    assert d3.steps == 2
    assert torch.isfinite(host.net_g.hidden.weight.grad).all()


def test_no_gradient_step_warns_once_and_the_student_learns(toy_data: GZSLData) -> None:
    host = ScriptHost(toy_data)
    d3 = attach(host)
    host.net_g.requires_grad_(False)
    before = d3.distiller.student.classify.weight.clone()
    with pytest.warns(D3Warning, match="no gradient can reach the generator"):
        loss = d3.loss()
    assert not loss.requires_grad
    assert not torch.equal(before, d3.distiller.student.classify.weight)
    with torch.no_grad():
        d3.loss()  # the filter turns a second warning into an error


def test_state_dict_continues_the_same_run(toy_data: GZSLData, tmp_path: object) -> None:
    through = ScriptHost(toy_data)
    d3 = attach(through)
    through.run(5, d3)
    through_state = through.state()

    broken = ScriptHost(toy_data)
    first = attach(broken)
    broken.run(2, first)
    torch.save(first.state_dict(), f"{tmp_path}/d3.pt")
    first.detach()
    streams = broken.state()
    second = attach(broken)  # draws and trains anew, then everything is overwritten
    assert_equal(streams, broken.state())
    second.load_state_dict(torch.load(f"{tmp_path}/d3.pt", weights_only=True))
    broken.run(3, second)
    assert second.steps == 5
    assert_equal(through_state, broken.state())
    assert_equal(d3.distiller.state_dict(), second.distiller.state_dict())


def test_foreign_state_is_refused_and_changes_nothing(toy_data: GZSLData) -> None:
    d3 = attach(ScriptHost(toy_data))
    other = attach(ScriptHost(toy_data), D3Settings(embedding_dim=9, teacher_epochs=1))
    before = {k: v.clone() for k, v in d3.distiller.state_dict().items()}
    with pytest.raises(HostError, match=r"(?s)same data and settings.*embedding_dim was 9, is 8"):
        d3.load_state_dict(other.state_dict())
    with pytest.raises(HostError, match=r"(?s)part 'distiller' is missing.*'optimizer'"):
        d3.load_state_dict({"model": 1})
    moved = {**d3.state_dict(), "seen_classes": torch.tensor([0, 1, 2, 3])}
    with pytest.raises(HostError, match=r"the seen classes were \[0, 1, 2, 3\]"):
        d3.load_state_dict(moved)
    assert_equal(before, d3.distiller.state_dict())


def test_streams_are_restored_when_synthesis_fails(toy_data: GZSLData) -> None:
    host = ScriptHost(toy_data)
    calls = []

    def once(class_ids: torch.Tensor, attributes: torch.Tensor) -> torch.Tensor:
        calls.append(len(class_ids))
        if len(calls) > 1:  # the first is the trial in attach
            raise RuntimeError("out of noise")
        return host.net_g(torch.randn_like(attributes), attributes)

    d3 = attach(host, synthesize=once)
    state = host.state()
    with pytest.raises(RuntimeError, match="out of noise"):
        d3.loss()
    assert_equal(state, host.state())


def test_hook_mode_refuses_what_would_go_wrong_silently(toy_data: GZSLData) -> None:
    host = ScriptHost(toy_data)
    d3 = attach(host, mode="hook")
    with pytest.raises(HostError, match=r"step\(closure\).*explicit form"):
        host.optimizer_g.step(lambda: host.generator_loss())
    with pytest.raises(HostError, match="adds its gradient in optimizer"):
        d3.loss()
    with pytest.raises(HostError, match=r"already; call detach\(\)"):
        attach(host, mode="hook")
    d3.detach()
    attach(host, mode="hook")


def test_modules_behind_synthesis_are_kept(toy_data: GZSLData) -> None:
    """A decoder with batch norm, as a feedback path may have."""
    host = ScriptHost(toy_data)
    decoder = torch.nn.Sequential(torch.nn.BatchNorm1d(12), torch.nn.Dropout())
    modes = []

    def synthesize(class_ids: torch.Tensor, attributes: torch.Tensor) -> torch.Tensor:
        modes.append(decoder[1].training)
        return decoder(host.net_g(torch.randn_like(attributes), attributes))

    before = decoder[0].running_mean.clone()
    d3 = attach(host, synthesize=synthesize, modules=[decoder])
    d3.loss().backward()
    d3.evaluate()
    assert torch.equal(before, decoder[0].running_mean)
    assert modes == [True, True, False], "trial, step, evaluation"
    assert decoder.training


def test_classifier_of_a_script_may_train_with_torch(toy_data: GZSLData) -> None:
    host = ScriptHost(toy_data)

    def train(features: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.nn.Module:
        model = torch.nn.Linear(features.shape[1], classes)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(200):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(features), labels).backward()
            optimizer.step()
        return model

    d3 = attach(host, train_classifier=train, synthetic_per_class=20)
    assert d3.evaluate(final_classifier="host").metrics.seen > 0.5


def test_weight_zero_and_host_classifier_is_the_baseline(toy_data: GZSLData) -> None:
    alone = ScriptHost(toy_data)
    alone.run(3)
    beside = ScriptHost(toy_data)
    d3 = attach(beside, weight_zero())
    beside.run(3, d3)
    expected = attach(alone, weight_zero()).evaluate(final_classifier="host").scores
    assert (d3.evaluate(final_classifier="host").scores == expected).all()
    assert (d3.evaluate().host_scores == expected).all()
    assert d3.evaluate(final_classifier="student").host_scores is None


def test_grad_scaler_hook_mode_is_refused(toy_data: GZSLData) -> None:
    host = ScriptHost(toy_data)
    attach(host, mode="hook")
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(host.generator_loss()).backward()
    with pytest.raises(HostError, match=r"GradScaler.*explicit form.*d3\.loss"):
        scaler.step(host.optimizer_g)


def test_grad_scaler_explicit_form(toy_data: GZSLData) -> None:
    gradients = []
    for scale in (None, 1024.0):
        host = ScriptHost(toy_data)
        d3 = attach(host)
        if scale is None:
            d3.loss().backward()
        else:
            scaler = torch.amp.GradScaler("cpu", init_scale=scale)
            scaler.scale(d3.loss()).backward()
            scaler.unscale_(host.optimizer_g)
        gradients.append([p.grad for p in host.net_g.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)


def test_autocast_host(toy_data: GZSLData) -> None:
    host = ScriptHost(toy_data)
    d3 = attach(host)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = d3.loss(features=host.input_res, labels=toy_data.train_labels[:8])
    assert loss.dtype == torch.float32
    loss.backward()
    assert torch.isfinite(host.net_g.hidden.weight.grad).all()


def test_half_precision_features_keep_small_gradients(toy_data: GZSLData) -> None:
    """At weight 1e-6 a float16 gradient would be all zeros; a GradScaler's factor saves it."""
    host = ScriptHost(toy_data)
    settings = D3Settings(embedding_dim=8, teacher_epochs=3, weight=1e-6)
    d3 = attach(
        host, settings, synthesize=lambda ids, att: host.net_g(torch.randn_like(att), att).half()
    )
    (d3.loss() * 2.0**20).backward()
    assert (host.net_g.out.bias.grad != 0).all()


def test_evaluate_repeats_itself_and_has_sane_numbers(toy_data: GZSLData) -> None:
    host = ScriptHost(toy_data)
    d3 = attach(host, synthetic_per_class=20)
    host.run(40, d3)
    first, second = d3.evaluate(draws=2), d3.evaluate(draws=2)
    assert first.metrics == second.metrics
    assert first.scores.shape == (2, len(first.labels), 6)
    assert first.metrics.seen > 0.5, "chance over six classes is 0.17"
    assert first.prior.sum() == pytest.approx(1)
