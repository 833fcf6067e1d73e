"""A saved D³ belongs to the problem and settings at hand, and its optimiser's state fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from d3_plugin.distillation.settings import SCORING


def check_same_problem(state: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Check that a saved state has our settings and classes.

    Raises:
        ValueError: names what differs.
    """
    others = [
        f"{name} was {state['settings'].get(name)!r}, is {now!r}"
        for name, now in own["settings"].items()
        if name not in SCORING and state["settings"].get(name) != now
    ]
    if state["seen_classes"].tolist() != own["seen_classes"].tolist():
        others.append(f"the seen classes were {state['seen_classes'].tolist()[:20]}")
    if others:
        raise ValueError(f"other settings or data: {'; '.join(others)}")


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """The moments of an Adam; its options follow from the settings, which agree.

    Raises:
        ValueError: the moments are of other shapes than the parameters.
    """
    options = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    optimizer.load_state_dict(dict(state))
    for group, own in zip(optimizer.param_groups, options, strict=True):
        group.update(own)
    for parameter, moments in optimizer.state.items():
        if any(moments[name].shape != parameter.shape for name in ("exp_avg", "exp_avg_sq")):
            raise ValueError("the optimiser's moments are of other shapes than its parameters")
