"""Steps with NaN or Inf: named, skipped, and given up on if they persist."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from d3_plugin import D3, D3Warning, hookimpl
from d3_plugin.distillation.student_trainer import StudentTrainer
from d3_plugin.errors import NotFiniteError
from d3_plugin.hosts.host import Host, StepBatch
from tests.toys import SMALL, ScriptHost, assert_equal, attach


class Term:
    """A plugin whose term is what the test wants."""

    def __init__(self, make: Any) -> None:
        self.make = make

    @hookimpl
    def d3_extra_terms(self, host: Host, batch: StepBatch) -> dict[str, Tensor]:
        return {"odd": self.make(batch)}


def learned(d3: D3) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in d3.distiller.state_dict().items()}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_batch_changes_nothing(host: ScriptHost, bad: float) -> None:
    d3 = attach(host)
    before = learned(d3)
    host.sample()
    broken = host.input_res.clone()
    broken[3, 1] = bad
    with pytest.warns(D3Warning, match=r"skipped 1 of.*: real rows, cls, kl"):
        loss = d3.loss(features=broken, labels=host.input_label)
    assert loss == 0
    loss.backward()
    assert all((p.grad == 0).all() for p in host.net_g.parameters())
    assert_equal(before, learned(d3))
    loss = d3.loss(features=host.input_res, labels=host.input_label)
    assert torch.isfinite(loss)
    assert loss > 0
    assert any(not torch.equal(v, before[k]) for k, v in learned(d3).items())
    assert d3.steps == 2


def test_a_bad_term_is_named(host: ScriptHost) -> None:
    d3 = attach(host, plugins=[Term(lambda b: b.features.sum() * float("nan"))])
    with pytest.warns(D3Warning, match=r"in: odd, total, gradients\."):
        d3.loss()


def test_a_bad_gradient_behind_a_finite_loss_is_seen(host: ScriptHost) -> None:
    d3 = attach(host, plugins=[Term(lambda b: (0 * b.student_logits).sum().sqrt())])
    before = learned(d3)
    with pytest.warns(D3Warning, match=r"in: gradients\."):
        assert d3.loss() == 0
    assert_equal(before, learned(d3))


@pytest.mark.parametrize("mode", ["loss", "hook"])
def test_a_diverged_generator_ends_the_training(host: ScriptHost, mode: str) -> None:
    d3 = attach(host, mode=mode)
    with torch.no_grad():
        host.net_g.hidden.bias.fill_(float("nan"))
    step = host.optimizer_g.step if mode == "hook" else lambda: d3.loss().backward()
    with pytest.warns(D3Warning, match="synthetic rows"):
        [step() for _ in range(99)]
    with pytest.raises(NotFiniteError, match=r"synthetic rows.*last 100 steps"):
        step()


def student_update(host: ScriptHost) -> StudentTrainer:
    return StudentTrainer(attach(host).distiller, host.net_g, 1e-3)


def test_warnings_come_ever_more_seldom(host: ScriptHost) -> None:
    update = student_update(host)
    warned = []
    for step in range(1, 40):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            value = torch.tensor(float("nan") if step % 2 else 1.0)
            _, good = update.train(torch.zeros(()), None, {"a": value})
        assert bool(good) == (step % 2 == 0)
        warned += [str(step)] if caught else []
    assert warned == ["1", "3", "7", "15", "31"], "the first, second, fourth, eighth, sixteenth"


def test_elsewhere_than_on_the_cpu_it_looks_every_fifty_steps(host: ScriptHost) -> None:
    update = student_update(host)
    update._on_cpu = False
    for step in range(1, 50):
        value = torch.tensor(float("nan") if step == 7 else 1.0)
        update.train(torch.zeros(()), None, {"a": value})
    with pytest.warns(D3Warning, match="skipped 1 of its first 50"):
        update.train(torch.zeros(()), None, {"a": torch.tensor(1.0)})


def test_without_any_term_a_bad_step_is_still_named(host: ScriptHost) -> None:
    none = replace(SMALL, cls_weight=0.0, kl_weight=0.0, be_weight=0.0, od_weight=0.0)
    d3 = attach(host, none)
    with torch.no_grad():
        host.net_g.hidden.bias.fill_(float("nan"))
    with pytest.warns(D3Warning, match="synthetic rows"):
        d3.loss()
