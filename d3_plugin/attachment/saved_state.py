"""The state that resumes a run of D³: saved, and loaded after a check."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pluggy

from d3_plugin.attachment.generator_loss import GeneratorLoss
from d3_plugin.attachment.hook_mode import OptimizerHook
from d3_plugin.distillation.settings import SCORING
from d3_plugin.distributed import process_rank
from d3_plugin.errors import HostError
from d3_plugin.hosts.isolation import plain_pytorch, stream_of_rank


def state_of(loss: GeneratorLoss, hook: OptimizerHook | None) -> dict[str, Any]:
    """See :meth:`d3_plugin.D3.state_dict`."""
    return {
        "distiller": loss.distiller.state_dict(),
        "optimizer": loss.student.optimizer.state_dict(),
        "steps": loss.student.steps,
        "random": loss.stream.state_dict(),
        "rank": process_rank() if loss.distiller.gather else 0,
        "gradient_shares": [*loss.to_generator.shares],
        "shares_per_weight": [*loss.to_generator.shares_per_weight],
        "host_steps": 0 if hook is None else hook.host_steps,
        "settings": asdict(loss.settings),
        "seen_classes": loss.host.data.seen_classes,
        "loop_call": loss.host.from_noise.state_dict(),
        "plugins": [plugin.state_dict() for plugin in _with_state(loss.hooks)],
    }


@plain_pytorch()
def continue_from(
    state: Mapping[str, Any], loss: GeneratorLoss, hook: OptimizerHook | None, seed: int
) -> None:
    """See :meth:`d3_plugin.D3.load_state_dict`; ``seed`` as in ``attach``."""
    before = copy.deepcopy(state_of(loss, hook))
    try:
        _check_same_problem(state, before)
        _take(copy.deepcopy(dict(state)), loss, hook, seed)  # Adam would keep its tensors
    except Exception as error:  # a damaged part makes PyTorch raise almost anything
        _take(before, loss, hook, seed)
        raise HostError(
            f"this state is damaged, or of other data or settings ({error!r}); nothing changed"
        ) from error


def _take(
    state: Mapping[str, Any], loss: GeneratorLoss, hook: OptimizerHook | None, seed: int
) -> None:
    host, to_generator = loss.host, loss.to_generator
    loss.distiller.load_state_dict(state["distiller"])
    loss.student.load_state_dict(state["optimizer"], int(state["steps"]))
    for own, saved in (
        (to_generator.shares, state["gradient_shares"]),
        (to_generator.shares_per_weight, state["shares_per_weight"]),
    ):
        own.clear()
        own.extend(each.to(host.device) for each in saved)
    if loss.distiller.gather and state["rank"] != process_rank():
        # Another process saved it: with its stream both would draw the same rows.
        loss.stream = stream_of_rank(seed, host.device, loss.student.steps)
    else:
        loss.stream.load_state_dict(state["random"])
    with loss.stream:
        pass  # a damaged one shows here, not in the next step
    if hook is not None:
        hook.host_steps = int(state["host_steps"])
    host.from_noise.load_state_dict(state["loop_call"])
    for plugin, own_state in zip(_with_state(loss.hooks), state["plugins"], strict=True):
        plugin.load_state_dict(own_state)


def _with_state(hooks: pluggy.HookRelay) -> list[Any]:
    """The plugins in use that can be saved, in the order in which they were registered."""
    callers = [caller for name, caller in vars(hooks).items() if name.startswith("d3_")]
    plugins = {id(each.plugin): each.plugin for c in callers for each in c.get_hookimpls()}
    methods = ("state_dict", "load_state_dict")
    return [p for p in plugins.values() if all(callable(getattr(p, m, None)) for m in methods)]


def _check_same_problem(state: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Check that a saved state has the same settings and classes; ValueError names what differs."""
    others = [
        f"{name} was {state['settings'].get(name)!r}, is {now!r}"
        for name, now in own["settings"].items()
        if name not in SCORING and state["settings"].get(name) != now
    ]
    if state["seen_classes"].tolist() != own["seen_classes"].tolist():
        others.append(f"the seen classes were {state['seen_classes'].tolist()[:20]}")
    if others:
        raise ValueError(f"other settings or data: {'; '.join(others)}")
