"""What happens to a step of D³ whose numbers are not finite."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from d3_plugin.errors import D3Warning, NotFiniteError

LOOK_EVERY = 50  # steps; looking makes a GPU wait
GIVE_UP = 100  # steps in a row


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
        self._every = 1 if device.type == "cpu" else LOOK_EVERY
        self._names: list[str] = []
        self._bad = torch.zeros(0, dtype=torch.long, device=device)
        self._in_a_row = torch.zeros((), dtype=torch.long, device=device)
        self._total, self._next_warning = 0, 1

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
        finite = [_finite([value]) for value in values.values()]
        finite.append(_finite(gradients) if gradients else torch.ones_like(finite[0]))
        each = torch.stack(finite)
        good = each.all()
        names = [*values, "gradients"]
        if names != self._names:  # a plugin's terms may change from step to step
            self.look(step - 1)
            self._names, self._bad = names, torch.zeros_like(each, dtype=torch.long)
        self._bad += ~each
        self._in_a_row = torch.where(good, 0, self._in_a_row + 1)
        if step % self._every == 0:
            self.look(step)
        return good

    def look(self, step: int) -> None:
        """Warn of the bad steps up to ``step`` that were not looked at yet."""
        counts = self._bad.tolist()
        self._bad.zero_()
        if not any(counts):
            return
        in_a_row = int(self._in_a_row)
        self._total += max(counts)
        found = ", ".join(name for name, n in zip(self._names, counts, strict=True) if n)
        message = (
            f"D³ left out {self._total} of its first {step} steps, because of NaN or Inf in: "
            f"{found}. They changed neither the student nor the generator. Look for Inf or NaN in "
            "the rows given to loss(), and for a generator that diverges"
        )
        if in_a_row >= GIVE_UP:
            raise NotFiniteError(f"{message}. The last {in_a_row} steps were all like that")
        if self._total >= self._next_warning:
            self._next_warning = 1 << self._total.bit_length()
            warnings.warn(message, D3Warning, stacklevel=4)


def _finite(tensors: Sequence[Tensor]) -> Tensor:
    """Whether all numbers are finite: 0-dim bool. One pass over each, and no copy."""
    lengths = [torch.linalg.vector_norm(tensor.detach()) for tensor in tensors]
    return torch.stack([torch.isfinite(length) for length in lengths]).all()
