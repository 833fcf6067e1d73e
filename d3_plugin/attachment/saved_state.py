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
from d3_plugin.errors import HostError
from d3_plugin.hosts.host import Host
from d3_plugin.hosts.isolation import plain_pytorch


def state_of(
    host: Host, hooks: pluggy.HookRelay, loss: GeneratorLoss, hook: OptimizerHook | None
) -> dict[str, Any]:
    """See :meth:`d3_plugin.D3.state_dict`."""
    return {
        "distiller": loss.distiller.state_dict(),
        **loss.state_dict(),
        "host_steps": 0 if hook is None else hook.host_steps,
        "settings": asdict(loss.settings),
        "seen_classes": host.data.seen_classes,
        "loop_call": host.from_noise.state_dict(),
        "plugins": [plugin.state_dict() for plugin in _with_state(hooks)],
    }


@plain_pytorch()
def continue_from(
    state: Mapping[str, Any],
    host: Host,
    hooks: pluggy.HookRelay,
    loss: GeneratorLoss,
    hook: OptimizerHook | None,
    seed: int,
) -> None:
    """See :meth:`d3_plugin.D3.load_state_dict`."""

    def take(state: Mapping[str, Any]) -> None:
        loss.distiller.load_state_dict(state["distiller"])
        loss.load_state_dict(state, seed)
        if hook is not None:
            hook.host_steps = int(state["host_steps"])
        host.from_noise.load_state_dict(state["loop_call"])
        for plugin, own in zip(_with_state(hooks), state["plugins"], strict=True):
            plugin.load_state_dict(own)

    before = copy.deepcopy(state_of(host, hooks, loss, hook))
    try:
        _check_same_problem(state, before)
        take(copy.deepcopy(dict(state)))  # Adam would keep its tensors
    except Exception as error:  # a damaged part makes PyTorch raise almost anything
        take(before)
        raise HostError(
            f"this state is damaged, or of other data or settings ({error!r}); nothing changed"
        ) from error


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
