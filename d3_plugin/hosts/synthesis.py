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
        HostError: the hook or the script's function returned something else, or lost the gradient.
    """
    with buffers_kept(host.modules), torch.set_grad_enabled(differentiable):
        rows: Tensor | None = hooks.d3_synthesize_features(
            host=host, class_ids=classes, differentiable=differentiable
        )
    source = "d3_synthesize_features" if host.synthesize is None else "attach(synthesize=...)"
    expected = (len(classes), host.data.feature_dim)
    if not isinstance(rows, Tensor) or rows.shape != expected:
        got = tuple(rows.shape) if isinstance(rows, Tensor) else type(rows)
        raise HostError(f"{source} must return {expected} features, got {got}")
    if differentiable and not rows.requires_grad:
        raise HostError(
            f"{source} returned features without gradient: is there a torch.no_grad(), .detach() "
            "or .data on the way from the generator?"
        )
    return rows
