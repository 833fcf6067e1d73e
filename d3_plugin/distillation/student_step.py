"""The student's own step, from the same backward pass that gives the generator its gradient."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from d3_plugin.distillation.distiller import Distiller
from d3_plugin.distillation.finite import FiniteGuard
from d3_plugin.distributed import agree, average, check_same_generator


class StudentUpdate:
    """Makes one backward pass per step: steps what D³ learns, and hands on the rows' gradient.

    A step whose numbers are not finite is left out, see :class:`FiniteGuard`. On
    a GPU, which would have to wait to know, its gradients are set to zero instead, and Adam makes
    the move that is left in its moments.

    Args:
        distiller: its parameters but the teacher's are stepped.
        generator: to be compared between processes.
        lr: of Adam.
        gather: average over the processes of ``torch.distributed``.

    Attributes:
        steps: how many were made.
        optimizer: the Adam.
        guard: looks for NaN and Inf.
    """

    def __init__(
        self, distiller: Distiller, generator: nn.Module, lr: float, *, gather: bool
    ) -> None:
        self._learned, self._generator, self._gather = distiller.learned(), generator, gather
        self._device = self._learned[0].device
        self.optimizer = torch.optim.Adam(self._learned, lr=lr, fused=True)
        self.guard = FiniteGuard(self._device)
        self.steps = 0

    def __call__(
        self, total: Tensor, rows: Tensor | None, values: Mapping[str, Tensor]
    ) -> tuple[Tensor | None, Tensor]:
        """Step.

        Args:
            total: 0-dim, the loss.
            rows: (M, D) whose gradient is wanted, or None.
            values: what the loss was made of, for messages.

        Returns:
            The gradient of ``total`` with respect to ``rows``, zeros if the step was left out, or
            None; and whether it was made, 0-dim bool.

        Raises:
            NotFiniteError: too many steps in a row were left out.
        """
        self.steps += 1
        if not total.requires_grad:  # no term is switched on
            good = self._agreed(self.guard.check(self.steps, values))
            return (None if rows is None else torch.zeros_like(rows)), good
        wanted = self._learned if rows is None else [*self._learned, rows]
        gradients = torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)
        own = gradients[: len(self._learned)]
        if self._gather:
            check_same_generator(self._generator, self.steps)
            own = average(own)
        of_rows = gradients[len(own) :]
        good = self._agreed(self.guard.check(self.steps, values, [*own, *of_rows]))
        if self._device.type != "cpu" or good:
            for parameter, gradient in zip(self._learned, self._kept(good, own), strict=True):
                parameter.grad = gradient
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return (None if rows is None else torch.where(good, of_rows[0], 0.0)), good

    def _agreed(self, good: Tensor) -> Tensor:
        return agree(good) if self._gather else good

    def _kept(self, good: Tensor, gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self._device.type == "cpu":  # fused Adam walks both memories alike, whatever the strides
            return tuple(gradient.contiguous() for gradient in gradients)
        return tuple(torch.where(good, gradient, 0.0) for gradient in gradients)
