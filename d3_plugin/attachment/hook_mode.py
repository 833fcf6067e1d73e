"""``mode="hook"``: the optimiser's step adds D³'s gradient; the host's loop stays unedited."""

from __future__ import annotations

import sys
import traceback
import weakref
from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch.amp import grad_scaler
from torch.optim.optimizer import register_optimizer_step_pre_hook

from d3_plugin.attachment.generator_loss import GeneratorLoss
from d3_plugin.distributed import average
from d3_plugin.errors import HostError, warn
from d3_plugin.hosts.host_parts import check_optimizers

# A second D³ on the same optimiser, from a notebook cell run twice, would double the gradient.
_hooked: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()

_NEW_AFTER = 3  # steps


def check_free(optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Check that there is a single optimiser, without another D³.

    Raises:
        HostError: there are several, or it has one.
    """
    if len(optimizers) > 1:
        raise HostError('mode="hook" takes a single optimizer; for several use mode="loss"')
    if optimizers[0] in _hooked:
        raise HostError("this optimizer already has a D³: detach() that one first")


class OptimizerHook:
    """A pre-hook of the optimiser's step, which adds D³'s gradient to its parameters.

    Args:
        loss: the generator's extra loss, whose gradient every ``host.interval``-th step of the
            optimiser gets. With ``gather`` it is averaged over processes, as DDP has averaged the
            host's.

    Attributes:
        host_steps: steps of the optimiser so far.
    """

    def __init__(self, loss: GeneratorLoss) -> None:
        self._host, self._loss, self._gather = loss.host, loss, loss.distiller.gather
        self.host_steps = 0
        self._join(self._host.optimizer)
        self._of_others = 0  # steps of the generator by other optimisers, since the last of ours
        self._strangers: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()
        noticed = weakref.WeakMethod(self._notice)

        def notice(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            if (method := noticed()) is not None:
                method(optimizer)

        self._notices = register_optimizer_step_pre_hook(notice)

    def remove(self) -> None:
        """Remove the hook from the optimiser."""
        self._notices.remove()
        self._leave()

    def _join(self, optimizer: torch.optim.Optimizer) -> None:
        self._host.optimizer = optimizer
        self._handle = optimizer.register_step_pre_hook(self._before_step)
        _hooked.add(optimizer)

    def _leave(self) -> None:
        self._handle.remove()
        _hooked.discard(self._host.optimizer)

    def _notice(self, optimizer: torch.optim.Optimizer) -> None:
        """Follow a loop that goes on with a new optimiser."""
        if optimizer is self._host.optimizer or optimizer in self._strangers:
            return
        own = {id(p) for p in self._host.generator.parameters()}
        if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
            self._strangers.add(optimizer)
            return
        self._of_others += 1
        if self._of_others < _NEW_AFTER:
            return
        check_free([optimizer])
        check_optimizers(self._host, [optimizer])
        warn(
            "the optimizer given to attach is no longer stepped, but another one with the "
            "generator's parameters is: D³ goes on with that one"
        )
        self._leave()
        self._join(optimizer)
        self._of_others = 0

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if any(callable(a) for a in (*args, *kwargs.values())):
            raise HostError(
                'mode="hook" does not work with optimizer.step(closure), which LBFGS and Lightning '
                'use: take mode="loss" in the closure, in Lightning in training_step'
            )
        stack = islice(traceback.walk_stack(sys._getframe()), 14)
        if any(frame.f_code.co_filename == grad_scaler.__file__ for frame, _ in stack):
            raise HostError(
                'mode="hook" does not work under a GradScaler, which scales gradients and skips '
                'steps: use mode="loss" and errG = errG + d3.loss(...) before scaler.scale(errG)'
            )
        self.host_steps += 1
        self._of_others = 0
        if (self.host_steps - 1) % self._host.interval:
            return
        with torch.enable_grad():
            extra = self._loss()
        if not extra.requires_grad:
            return
        parameters = [p for g in optimizer.param_groups for p in g["params"] if p.requires_grad]
        gradients = torch.autograd.grad(
            extra, parameters, allow_unused=True, materialize_grads=self._gather
        )
        if self._gather:
            gradients = average(gradients)
        reached = {p: g for p, g in zip(parameters, gradients, strict=True) if g is not None}
        for parameter, gradient in reached.items():
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        self._loss.to_generator.add(reached)
