"""``mode="hook"``: the optimiser's step adds D³'s gradient; the host's loop stays as it is."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.amp import grad_scaler

from d3_plugin.distributed import average
from d3_plugin.errors import HostError
from d3_plugin.hosts.host import Host

# A second D³ on the same optimiser, from a notebook cell run twice, would double the gradient.
_hooked: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()


def check_free(optimizer: torch.optim.Optimizer) -> None:
    """No other D³ is in this optimiser.

    Raises:
        HostError: there is one.
    """
    if optimizer in _hooked:
        raise HostError("D³ is in this optimizer already: detach() the first one")


class StepHook:
    """A step pre-hook of the generator's optimiser.

    Args:
        host: whose optimiser; every ``host.interval``-th of its steps gets a gradient.
        step: makes a step of D³ and returns the generator's extra loss.
        gather: whether to average the gradient over processes; DDP has averaged the host's already.

    Attributes:
        host_steps: steps of the optimiser so far.
    """

    def __init__(self, host: Host, step: Callable[[], Tensor], *, gather: bool) -> None:
        self._host, self._step, self._gather = host, step, gather
        self.host_steps = 0
        _hooked.add(host.optimizer)
        self._handle = host.optimizer.register_step_pre_hook(self._before_step)

    def remove(self) -> None:
        """Leave the optimiser as it was."""
        self._handle.remove()
        _hooked.discard(self._host.optimizer)

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if any(callable(a) for a in (*args, *kwargs.values())):
            raise HostError(
                'mode="hook" does not work with optimizer.step(closure), which makes the gradients '
                'anew: use mode="loss" and errG = errG + d3.loss(...) inside the closure'
            )
        _refuse_grad_scaler()
        self.host_steps += 1
        if (self.host_steps - 1) % self._host.interval:
            return
        with torch.enable_grad():
            extra = self._step()
        if not extra.requires_grad:
            return
        parameters = [p for p in self._host.generator.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(
            extra, parameters, allow_unused=True, materialize_grads=self._gather
        )
        if self._gather:
            gradients = average(gradients)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None and parameter.grad is not None:
                parameter.grad.add_(gradient)
            elif gradient is not None:
                parameter.grad = gradient


def _refuse_grad_scaler() -> None:
    """Under a GradScaler the gradients in a pre-hook may be scaled, or the step skipped."""
    frame = sys._getframe(1)
    for _ in range(12):
        if frame.f_back is None:
            return
        frame = frame.f_back
        if frame.f_code.co_filename == grad_scaler.__file__:
            raise HostError(
                'mode="hook" does not work under a GradScaler, which scales gradients and skips '
                'steps: use mode="loss" and errG = errG + d3.loss(...) before scaler.scale(errG)'
            )
