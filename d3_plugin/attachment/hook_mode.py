"""``mode="hook"``: the optimiser's step adds D³'s gradient; the host's loop stays as it is."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.amp import grad_scaler

from d3_plugin.distributed import average
from d3_plugin.errors import HostError
from d3_plugin.hosts.host import Host

# A second D³ on the same optimiser, from a notebook cell run twice, would double the gradient.
_hooked: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()


def check_free(optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """There is one optimiser, and no other D³ in it.

    Raises:
        HostError: there is one, or there are several optimisers.
    """
    if len(optimizers) > 1:
        raise HostError('mode="hook" takes one optimizer, in whose step it acts: use mode="loss"')
    if optimizers[0] in _hooked:
        raise HostError("D³ is in this optimizer already: detach() the first one")


class StepHook:
    """A step pre-hook of the generator's optimiser: gradient for what that optimiser steps.

    Args:
        host: whose optimiser; every ``host.interval``-th of its steps gets a gradient.
        step: makes a step of D³ and returns the generator's extra loss.
        measure: is told D³'s gradients and the whole ones.
        gather: whether to average the gradient over processes; DDP has averaged the host's already.

    Attributes:
        host_steps: steps of the optimiser so far.
    """

    def __init__(
        self,
        host: Host,
        step: Callable[[], Tensor],
        measure: Callable[[list[Tensor], list[Tensor]], None],
        *,
        gather: bool,
    ) -> None:
        self._host, self._step, self._measure, self._gather = host, step, measure, gather
        self.host_steps = 0
        self._handle = host.optimizer.register_step_pre_hook(self._before_step)
        _hooked.add(host.optimizer)

    def remove(self) -> None:
        """Leave the optimiser as it was."""
        self._handle.remove()
        _hooked.discard(self._host.optimizer)

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if any(callable(a) for a in (*args, *kwargs.values())):
            raise HostError(
                'mode="hook" does not work with optimizer.step(closure), which LBFGS and Lightning '
                'use: take mode="loss" in the closure, in Lightning in training_step'
            )
        _refuse_grad_scaler()
        self.host_steps += 1
        if (self.host_steps - 1) % self._host.interval:
            return
        with torch.enable_grad():
            extra = self._step()
        if not extra.requires_grad:
            return
        groups = optimizer.param_groups
        parameters = [p for group in groups for p in group["params"] if p.requires_grad]
        gradients = torch.autograd.grad(
            extra, parameters, allow_unused=True, materialize_grads=self._gather
        )
        if self._gather:
            gradients = average(gradients)
        reached = [(p, g) for p, g in zip(parameters, gradients, strict=True) if g is not None]
        for parameter, gradient in reached:
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        self._measure([g for _, g in reached], [p.grad for p, _ in reached if p.grad is not None])


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
