"""D³'s part of the generator's gradient: passed on in the host's backward pass, and measured."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from d3_plugin.distributed import average
from d3_plugin.errors import D3Warning

LARGE_SHARE = 0.04
"""Of the generator's gradient: a share of 6 % spoilt a flow's training; most have below 3 %."""

MEASURE_EVERY = 10  # steps in loss form, where measuring takes a walk through D³'s graph


class GivenGradient(torch.autograd.Function):
    """A value whose gradient with respect to ``synthetic`` is already known."""

    @staticmethod
    def forward(ctx: Any, synthetic: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return outer[0] * gradient, None, None


class GradientShare:
    """Norm of D³'s gradient over that of the whole, at the parameters that D³ reaches.

    Args:
        weight: of D³'s losses until a share was measured.

    Attributes:
        recent: up to ten, 0-dim on the device.
        per_weight: each of them over the weight that it was measured at; NaN if unusable.
        weight: in use.
    """

    def __init__(self, weight: float) -> None:
        self.recent: deque[Tensor] = deque(maxlen=10)
        self.per_weight: deque[Tensor] = deque(maxlen=10)
        self.weight: float | Tensor = weight

    def follow(self, target: float, start: float, *, gather: bool) -> None:
        """Set the weight at which the share is ``target``, or ``start`` if none was measured."""
        if not self.per_weight:
            self.weight = start
            return
        share = torch.stack([*self.per_weight]).nanmedian()
        if gather:
            (share,) = average([share])
        self.weight = torch.where(share.isnan(), start, target / share)

    def add(self, parts: Mapping[Tensor, Tensor]) -> None:
        """Measure from D³'s part of each parameter's gradient; its ``.grad`` is the whole."""
        whole = {p: p.grad for p in parts if p.grad is not None and not p.grad.is_sparse}
        if whole:
            share = _norm([parts[p] for p in whole]) / _norm([*whole.values()])
            usable = share.isfinite() & (share > 0)  # a skipped step has 0
            self.recent.append(share)
            self.per_weight.append((share / self.weight).where(usable, torch.nan))

    def watch(self, synthetic: Tensor) -> Callable[[Tensor], None]:
        """Measure in the host's backward pass, without another one.

        Hooks on D³'s own graph note what it passes to each parameter. After the pass, ``.grad`` of
        the parameter holds this and the host's part.

        Returns:
            A hook for the tensor at which that pass enters D³.
        """
        parts: dict[Any, Tensor] = {}

        def note(leaves: list[tuple[int, Any]], gradients: Sequence[Tensor], _: object) -> None:
            for place, leaf in leaves:
                if gradients[place] is not None:
                    before = parts.get(leaf)
                    parts[leaf] = gradients[place] if before is None else before + gradients[place]

        def finish() -> None:
            self.add(parts)
            parts.clear()

        seen: set[Any] = {None}
        waiting: list[Any] = [synthetic.grad_fn]
        while waiting:
            if (node := waiting.pop()) in seen:
                continue
            seen.add(node)
            after = [following for following, _ in node.next_functions]
            leaves = [(i, f.variable) for i, f in enumerate(after) if hasattr(f, "variable")]
            if leaves:
                node.register_hook(partial(note, leaves))
            waiting += [f for f in after if not hasattr(f, "variable")]
        engine: Any = torch.autograd.Variable._execution_engine
        return lambda _: engine.queue_callback(finish)

    def warn_unknown(self) -> bool:
        """Warn if the share that the weight is to follow is unknown. Makes a GPU wait."""
        if unknown := all(share.isnan() for share in self.per_weight):
            warnings.warn(
                "D³'s share of the generator's gradient cannot be measured, so its weight stays "
                f"{self.weight:g}: no backward() reached the generator through d3.loss()",
                D3Warning,
                stacklevel=5,
            )
        return unknown

    def warn(self, weight: float, hooked: bool) -> bool:
        """Warn if the median share is too large, and return whether it is. Makes a GPU wait."""
        share = float(torch.stack([*self.recent]).nanmedian()) if self.recent else 0.0
        clipped = "; if your loop clips the gradient, D³'s comes after that: use mode='loss'"
        if large := share > LARGE_SHARE:
            warnings.warn(
                f"D³'s part of the generator's gradient is {share:.1%}; above {LARGE_SHARE:.0%} it "
                "may spoil the host's own training. Take "
                f"D3Settings(weight={weight * LARGE_SHARE / 4 / share:.1g}){clipped * hooked}",
                D3Warning,
                stacklevel=5,
            )
        return large


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    norms = [norm.float() for norm in torch._foreach_norm(list(gradients))]
    whole: Tensor = torch.stack([norm.to(norms[0].device) for norm in norms]).norm()
    return whole
