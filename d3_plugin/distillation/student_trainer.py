"""Trains the student, in the backward pass that gives the generator its gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from d3_plugin.distillation.distiller import Distiller
from d3_plugin.distributed import agree, average, check_same_generator
from d3_plugin.errors import NotFiniteError, warn
from d3_plugin.functional.precision import autocast_off

LOOK_EVERY = 50  # steps; reading values makes a GPU wait
GIVE_UP = 100  # consecutive steps


class StudentTrainer:
    """One backward pass per step: updates what D³ learns and returns the gradient of the rows.

    A step with NaN or Inf gives neither the student nor the generator a gradient. A
    :class:`D3Warning` names what was not finite: rows, terms or gradients. It is given at skipped
    steps 1, 2, 4, 8, ..., on the CPU at once, elsewhere within ``LOOK_EVERY`` steps. After
    ``GIVE_UP`` consecutive ones :class:`NotFiniteError` ends the training. On a GPU, which would
    have to wait for the answer, the gradients of such a step are set to zero instead, and Adam
    moves by its moments alone.

    Args:
        distiller: all its parameters except the teacher's are updated.
        generator: compared between processes.
        lr: of Adam.

    Attributes:
        steps: number of steps so far.
        optimizer: the Adam.
    """

    def __init__(self, distiller: Distiller, generator: nn.Module, lr: float) -> None:
        self._learned, self._gather = distiller.learned(), distiller.gather
        self._generator = generator
        device = self._learned[0].device
        self._on_cpu = device.type == "cpu"
        self.optimizer = torch.optim.Adam(self._learned, lr=lr, fused=True)
        self.steps = 0
        self._names: list[str] = []
        self._bad = torch.zeros(0, dtype=torch.long, device=device)
        self._skipped, self._in_a_row = torch.zeros((2, 1), dtype=torch.long, device=device)
        self._next_warning = 1

    def train(
        self, total: Tensor, rows: Tensor | None, values: Mapping[str, Tensor], *, step: bool = True
    ) -> tuple[Tensor | None, Tensor]:
        """Update the student.

        Args:
            total: 0-dim, the loss.
            rows: (M, D) whose gradient is returned, or None.
            values: rows and terms behind the loss, for messages.
            step: False for the gradient alone.

        Returns:
            The gradient of ``total`` with respect to ``rows``, zeros if the step was skipped, or
            None; and whether the step was made, 0-dim bool.

        Raises:
            NotFiniteError: too many consecutive steps were skipped.
        """
        self.steps += step
        learned = self._learned if step else []
        wanted = learned if rows is None else [*learned, rows]
        if not total.requires_grad or not wanted:  # all weights are 0
            good = self._finite(values, ())
            return (None if rows is None else torch.zeros_like(rows)), good
        with autocast_off(total):  # it lowers the precision of products in backward, too
            gradients = torch.autograd.grad(
                total, wanted, allow_unused=True, materialize_grads=True
            )
        own = gradients[: len(learned)]
        if self._gather and step:
            check_same_generator(self._generator, self.steps)
            own = average(own)
        of_rows = gradients[len(own) :]
        good = self._finite(values, [*own, *of_rows])
        if step and (not self._on_cpu or good):
            for parameter, gradient in zip(self._learned, own, strict=True):
                # Fused Adam ignores strides on the CPU.
                kept = gradient if self._on_cpu else gradient.masked_fill(~good, 0.0)
                parameter.grad = kept.contiguous()
            self.optimizer.step()
            for parameter in self._learned:
                parameter.grad = None
        return (None if rows is None else of_rows[0].masked_fill(~good, 0.0)), good

    def load_state_dict(self, optimizer: Mapping[str, Any], steps: int) -> None:
        """Continue with these moments of Adam; its options follow from the settings.

        Raises:
            ValueError: the moments are of other shapes than the parameters.
        """
        own = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({**optimizer, "param_groups": own})
        for parameter, moments in self.optimizer.state.items():
            if any(moments[name].shape != parameter.shape for name in ("exp_avg", "exp_avg_sq")):
                raise ValueError("Adam's moments are of other shapes than its parameters")
        self.steps = steps

    def _finite(self, values: Mapping[str, Tensor], gradients: Sequence[Tensor]) -> Tensor:
        """Whether the step may be made, in every process; 0-dim bool on the device."""
        # A norm is one pass over each tensor, and no copy.
        norms = torch._foreach_norm([*[value.detach() for value in values.values()], *gradients])
        bad = ~torch.isfinite(torch.stack(norms))
        names = [*values, *["gradients"] * len(gradients)]
        if names != self._names:  # a plugin's terms may change between steps
            self.look()
            self._names, self._bad = names, torch.zeros_like(bad, dtype=torch.long)
        any_bad = bad.any()
        if self._on_cpu and not any_bad:
            self._in_a_row.zero_()
        else:
            self._bad += bad
            self._skipped += any_bad
            self._in_a_row = torch.where(any_bad, self._in_a_row + 1, 0)
            if self._on_cpu or self.steps % LOOK_EVERY == 0:
                self.look()
        return agree(~any_bad) if self._gather else ~any_bad

    def look(self) -> None:
        """Warn of newly skipped steps; makes a GPU wait."""
        found = {name for name, n in zip(self._names, self._bad.tolist(), strict=True) if n}
        self._bad.zero_()
        if not found:
            return
        skipped, in_a_row = int(self._skipped), int(self._in_a_row)
        message = (
            f"D³ skipped {skipped} of its first {self.steps} steps because of NaN or Inf in: "
            f"{', '.join(sorted(found, key=self._names.index))}. They gave neither the student "
            "nor the generator a gradient. Look for Inf or NaN in the rows given to loss(), and "
            "for a "
            "generator that diverges"
        )
        if in_a_row >= GIVE_UP:
            raise NotFiniteError(f"{message}. The last {in_a_row} steps were all skipped")
        if skipped >= self._next_warning:
            self._next_warning = 1 << skipped.bit_length()
            warn(message)
