"""Synthesis through the hooks, with its result checked."""

from __future__ import annotations

import pluggy
import torch
from torch import Tensor

from d3_plugin.errors import HostError
from d3_plugin.hosts.host import Host
from d3_plugin.hosts.module_state import ModuleState


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
    state = ModuleState(host.modules)
    try:
        with torch.set_grad_enabled(differentiable):
            rows = hooks.d3_synthesize_features(
                host=host, class_ids=classes, differentiable=differentiable
            )
    finally:
        state.undo()
        state.drop_added()
    shape = (len(classes), host.data.feature_dim)
    fits = isinstance(rows, Tensor) and rows.shape == shape and _is_real(rows, classes)
    if not fits or (differentiable and not rows.requires_grad):
        got = type(rows).__name__
        if isinstance(rows, Tensor):
            got = f"{rows.dtype} {tuple(rows.shape)} {rows.layout} on {rows.device}"
        advice = "take them out of it in attach(synthesize=lambda class_ids, attributes: ...)"
        if fits:
            advice = "without gradient: look for no_grad(), .detach() or .data"
        raise HostError(
            f"the generator, attach(synthesize=...) or a plugin must return features {shape}, got "
            f"{got}; {advice}"
        )
    result: Tensor = rows
    return result


def _is_real(rows: Tensor, classes: Tensor) -> bool:
    """Dense, on the data's device, and without an imaginary part that would be lost."""
    dense = rows.layout == torch.strided and rows.device == classes.device
    return dense and rows.is_floating_point()
