"""Checks of a training with D³ beside it."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from d3_plugin.attachment.attach import attach
from d3_plugin.attachment.d3 import D3, Mode
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.errors import AdapterError, Problems
from d3_plugin.hooks.manager import make_manager
from d3_plugin.hosts.describe import describe_trainer
from d3_plugin.testing.case import (
    AdapterCase,
    differences,
    listed,
    modules_of,
    seeded,
    state_of,
)


def check_weight_zero(case: AdapterCase) -> None:
    """With D³ at weight 0 a training ends where it ends without, bit for bit."""
    problems = Problems("check_weight_zero")
    alone, (beside, _) = _without_d3(case), _with_d3(case, 0.0)
    changed = differences(alone, beside)
    again = differences(alone, _without_d3(case)) if changed else []
    if again:
        problems.add(
            f"two trainings without D³ from the same seed differ in {listed(again)}, expected the "
            "same end, bit for bit; make build(data, seed) and fit() draw from the global random "
            "streams, and from nothing else"
        )
    elif changed:
        problems.add(
            f"a training with D³ at weight 0 differs from one without in {listed(changed)}, "
            "expected the same end, bit for bit; synthesis must leave no trace in the trainer: no "
            "random stream of its own, no counter, no module of its path missing in Host.modules"
        )
    problems.raise_as(AdapterError)


def check_training(case: AdapterCase) -> None:
    """D³ takes part in ``fit()``, and its gradient reaches every parameter of the generator."""
    problems = Problems("check_training")
    alone, (beside, d3) = _without_d3(case), _with_d3(case, 1.0)
    problems.check(
        d3.steps > 0,
        "fit() made no step of D³, expected one per generator step; Host.optimizer must be the "
        "very object whose step() fit() calls",
    )
    changed = differences(alone, beside)
    problems.check(
        any(name.startswith("parameter generator.") for name in changed),
        "a training with D³ leaves the generator where one without leaves it, expected another "
        "end; Host.generator must be the module that fit() trains and synthesis runs through",
    )
    with seeded(0):
        trainer = case.build(case.data, 0)
        trainer.fit()
        d3 = _attach(case, trainer, 1.0, "loss")
        d3.host.generator.zero_grad(set_to_none=True)
        d3.loss().backward()
    parameters = {n: p for n, p in d3.host.generator.named_parameters() if p.requires_grad}
    without = [n for n, p in parameters.items() if p.grad is None or not p.grad.any()]
    problems.check(
        not without,
        f"D³'s gradient is missing or zero in {len(without)} of the generator's {len(parameters)} "
        f"parameters, expected it in all: {listed(without)}; check_synthesis_gradient says whether "
        "synthesis loses it, or else the rows do not move what the student sees",
    )
    problems.raise_as(AdapterError)


def _attach(case: AdapterCase, trainer: Any, weight: float, mode: Mode) -> D3:
    settings = D3Settings(weight=weight, embedding_dim=32, teacher_epochs=2, synthetic_rows=16)
    return attach(trainer, settings=settings, mode=mode, plugins=case.plugins)


def _with_d3(case: AdapterCase, weight: float) -> tuple[dict[str, Any], D3]:
    with seeded(0):
        trainer = case.build(case.data, 0)
        d3 = _attach(case, trainer, weight, "hook")
        trainer.fit()
        d3.detach()
        return _end(case, trainer), d3


def _without_d3(case: AdapterCase) -> dict[str, Any]:
    with seeded(0):
        trainer = case.build(case.data, 0)
        trainer.fit()
        return _end(case, trainer)


def _end(case: AdapterCase, trainer: Any) -> dict[str, Any]:
    """Everything that a training leaves behind, by name; call it before the streams move on."""
    numpy_state: Any = np.random.get_state()  # noqa: NPY002 - hosts draw from the global stream
    kind, keys, *rest = numpy_state
    streams = {
        "PyTorch's global random stream": torch.get_rng_state(),
        "NumPy's global random stream": [kind, keys.tolist(), rest],
        "Python's global random stream": random.getstate(),
    }
    host = describe_trainer(make_manager(case.plugins), trainer)
    modules = {**modules_of(trainer, host), "generator": host.generator}
    history = repr(getattr(trainer, "history", None))  # exact, and NaN is like NaN
    return {**streams, **state_of(modules), "the trainer's history": history}
