"""The student's own step, from the same backward pass that gives the generator its gradient."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from d3_plugin.distillation.distiller import Distiller
from d3_plugin.distributed import agree, average, check_same_generator
from d3_plugin.errors import D3Warning, NotFiniteError

LOOK_EVERY = 50  # steps; looking makes a GPU wait
GIVE_UP = 100  # steps in a row


class StudentUpdate:
    """Makes one backward pass per step: steps what D³ learns, and hands on the rows' gradient.

    A step whose numbers are not finite is left out, see :class:`FiniteGuard`. On a GPU, which would
    have to wait to know, its gradients are set to zero instead, and Adam makes the move that is
    left in its moments.

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
        self,
        total: Tensor,
        rows: Tensor | None,
        values: Mapping[str, Tensor],
        *,
        step: bool = True,
    ) -> tuple[Tensor | None, Tensor]:
        """Step.

        Args:
            total: 0-dim, the loss.
            rows: (M, D) whose gradient is wanted, or None.
            values: what the loss was made of, for messages.
            step: False for the gradient alone.

        Returns:
            The gradient of ``total`` with respect to ``rows``, zeros if the step was left out, or
            None; and whether it was made, 0-dim bool.

        Raises:
            NotFiniteError: too many steps in a row were left out.
        """
        self.steps += step
        learned = self._learned if step else []
        wanted = learned if rows is None else [*learned, rows]
        if not total.requires_grad or not wanted:  # no term is switched on
            good = self._agreed(self.guard.check(self.steps, values))
            return (None if rows is None else torch.zeros_like(rows)), good
        gradients = torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)
        own = gradients[: len(learned)]
        if self._gather and step:
            check_same_generator(self._generator, self.steps)
            own = average(own)
        of_rows = gradients[len(own) :]
        good = self._agreed(self.guard.check(self.steps, values, [*own, *of_rows]))
        if step and (self._device.type != "cpu" or good):
            for parameter, gradient in zip(self._learned, self._kept(good, own), strict=True):
                parameter.grad = gradient
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return (None if rows is None else of_rows[0].masked_fill(~good, 0.0)), good

    def _agreed(self, good: Tensor) -> Tensor:
        return agree(good) if self._gather else good

    def _kept(self, good: Tensor, gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self._device.type == "cpu":  # fused Adam walks both memories alike, whatever the strides
            return tuple(gradient.contiguous() for gradient in gradients)
        return tuple(gradient.masked_fill(~good, 0.0) for gradient in gradients)


class FiniteGuard:
    """Finds steps with NaN or Inf, says where they came from, and gives up when they do not end.

    Such a step changes neither the student nor the generator. A :class:`D3Warning` names what was
    not finite: rows, terms or gradients; on the CPU at once, elsewhere at the next of every
    ``LOOK_EVERY`` steps. It comes with the first bad step, the second, the fourth, the eighth and
    so on, and after ``GIVE_UP`` bad steps in a row :class:`NotFiniteError` ends the training.

    Args:
        device: where the steps are made.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_cpu = device.type == "cpu"
        self._names: list[str] = []
        self._bad = torch.zeros(0, dtype=torch.long, device=device)
        self._left_out, self._in_a_row = torch.zeros((2, 1), dtype=torch.long, device=device)
        self._next_warning = 1

    def check(
        self, step: int, values: Mapping[str, Tensor], gradients: Sequence[Tensor] = ()
    ) -> Tensor:
        """Whether the step may be made.

        Args:
            step: its number, from 1.
            values: what it was made of, by name: rows, terms.
            gradients: what it would change parameters by.

        Returns:
            0-dim bool, on the device.

        Raises:
            NotFiniteError: ``GIVE_UP`` steps in a row were not finite.
        """
        # A norm is one pass over each tensor, and no copy.
        norms = torch._foreach_norm([*(value.detach() for value in values.values()), *gradients])
        bad = ~torch.isfinite(torch.stack(norms))
        names = [*values, *["gradients"] * len(gradients)]
        if names != self._names:  # a plugin's terms may change from step to step
            self.look(step - 1)
            self._names, self._bad = names, torch.zeros_like(bad, dtype=torch.long)
        any_bad = bad.any()
        if self._on_cpu and not any_bad:
            self._in_a_row.zero_()
            return ~any_bad
        self._bad += bad
        self._left_out += any_bad
        self._in_a_row = torch.where(any_bad, self._in_a_row + 1, 0)
        if self._on_cpu or step % LOOK_EVERY == 0:
            self.look(step)
        return ~any_bad

    def look(self, step: int) -> None:
        """Warn of the bad steps up to ``step`` that were not looked at yet."""
        found = {name for name, n in zip(self._names, self._bad.tolist(), strict=True) if n}
        self._bad.zero_()
        if not found:
            return
        left_out, in_a_row = int(self._left_out), int(self._in_a_row)
        message = (
            f"D³ left out {left_out} of its first {step} steps, because of NaN or Inf in: "
            f"{', '.join(sorted(found, key=self._names.index))}. They changed neither the student "
            "nor the generator. Look for Inf or NaN in the rows given to loss(), and for a "
            "generator that diverges"
        )
        if in_a_row >= GIVE_UP:
            raise NotFiniteError(f"{message}. The last {in_a_row} steps were all like that")
        if left_out >= self._next_warning:
            self._next_warning = 1 << left_out.bit_length()
            warnings.warn(message, D3Warning, stacklevel=4)
