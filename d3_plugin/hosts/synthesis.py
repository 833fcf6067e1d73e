"""Synthesis through the hooks, with its result checked."""

from __future__ import annotations

import pluggy
import torch
from torch import Tensor

from d3_plugin.errors import HostError
from d3_plugin.hosts.host import Host
from d3_plugin.hosts.isolation import buffers_kept


def synthesize(
    host: Host, hooks: pluggy.HookRelay, classes: Tensor, *, differentiable: bool
) -> Tensor:
    """One feature row per class id, leaving the host's buffers as they are.

    Args:
        host, hooks: the host and ``manager.hook``.
        classes: (N,) class ids.
        differentiable: whether gradient must reach the generator.

    Returns:
        (N, D) features.

    Raises:
        HostError: the hook or the user's function returned something else, or lost the gradient.
    """
    with buffers_kept(host.modules), torch.set_grad_enabled(differentiable):
        rows = hooks.d3_synthesize_features(
            host=host, class_ids=classes, differentiable=differentiable
        )
    shape = (len(classes), host.data.feature_dim)
    if not isinstance(rows, Tensor) or rows.shape != shape:
        got = tuple(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
        raise HostError(
            f"synthesis (attach(synthesize=...), a plugin or the generator itself) must return "
            f"features {shape}, got {got}"
        )
    if differentiable and not rows.requires_grad:
        raise HostError(
            "synthesis (attach(synthesize=...), a plugin or the generator itself) returned features"
            " without gradient: is there a torch.no_grad(), .detach() or .data on the way?"
        )
    return rows
