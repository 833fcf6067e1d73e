"""Synthesis through the hooks, with a check of the result."""

from __future__ import annotations

import pluggy
import torch
from torch import Tensor

from d3_plugin.checks import describe
from d3_plugin.errors import HostError
from d3_plugin.hosts.host import Host
from d3_plugin.hosts.loop_calls import own_calls
from d3_plugin.hosts.module_state import ModuleState


def synthesize(
    host: Host, hooks: pluggy.HookRelay, classes: Tensor, *, differentiable: bool
) -> Tensor:
    """One feature row per class id; the host's buffers are restored.

    Args:
        host, hooks: the host and ``manager.hook``.
        classes: (N,) class ids.
        differentiable: whether gradient must reach the generator.

    Returns:
        (N, D) features.

    Raises:
        HostError: the hook or the user's function returned something else, or lost the gradient.
    """
    with (
        own_calls(),
        ModuleState(host.modules, host.changed_in_forward),
        torch.set_grad_enabled(differentiable),
    ):
        rows = hooks.d3_synthesize_features(
            host=host, class_ids=classes.clone(), differentiable=differentiable
        )
        if rows is None:
            rows = host.from_noise(classes, host.data.attributes[classes])
    shape = (len(classes), host.data.feature_dim)
    fits = (
        isinstance(rows, Tensor)
        and rows.shape == shape
        and (rows.layout, rows.device) == (torch.strided, classes.device)
        and rows.is_floating_point()  # the imaginary part of complex rows would be lost
    )
    if not fits or (differentiable and not rows.requires_grad):
        advice = "take them out of it in attach(synthesize=lambda class_ids, attributes: ...)"
        if fits:
            advice = "without gradient: look for no_grad(), .detach() or .data"
        raise HostError(
            f"the generator, attach(synthesize=...) or a plugin must return features {shape}, got "
            f"{describe(rows)}; {advice}"
        )
    synthetic: Tensor = rows
    return synthetic
