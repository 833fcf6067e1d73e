"""D³'s part of the generator's gradient: handed on in the host's backward pass, and measured."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from d3_plugin.errors import D3Warning

LARGE_SHARE = 0.04
"""Of D³ in the generator's gradient: 6 % spoilt a flow's training, up to 2.6 % spoilt no host."""

MEASURE_EVERY = 10  # steps in loss form, where measuring takes a walk through D³'s graph

Begun = Callable[[], object]


class GivenGradient(torch.autograd.Function):
    """A value whose gradient with respect to ``synthetic`` is already known."""

    @staticmethod
    def forward(
        ctx: Any, synthetic: Tensor, value: Tensor, gradient: Tensor, begun: Begun | None
    ) -> Tensor:
        ctx.save_for_backward(gradient)
        ctx.begun = begun
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        if ctx.begun is not None:
            ctx.begun()
        return outer[0] * gradient, None, None, None


class GradientShare:
    """Norm of D³'s gradient over that of the whole, at the parameters that D³ reaches.

    Attributes:
        recent: up to ten, 0-dim on the device.
        last: the last one measured; None before the first.
    """

    def __init__(self) -> None:
        self.recent: deque[Tensor] = deque(maxlen=10)

    @property
    def last(self) -> Tensor | None:
        return self.recent[-1] if self.recent else None

    def add(self, of_d3: Sequence[Tensor], whole: Sequence[Tensor]) -> None:
        """Measure; in the same order, and neither is changed."""
        if whole:
            part, total = (_norm(gradients) for gradients in (of_d3, whole))
            self.recent.append(part / total)

    def watch(self, synthetic: Tensor) -> Begun:
        """Measure in the host's backward pass, which must not be run once more for it.

        The nodes of D³'s own graph tell what they hand to each parameter, beside what the host's
        hand to it; when the pass is over, the parameter has both.

        Returns:
            To be called when that pass has reached D³.
        """
        parts: dict[Any, Tensor] = {}

        def note(leaves: list[tuple[int, Any]], gradients: Sequence[Tensor], _: object) -> None:
            for place, leaf in leaves:
                if gradients[place] is not None:
                    before = parts.get(leaf)
                    parts[leaf] = gradients[place] if before is None else before + gradients[place]

        def finish() -> None:
            reached = [leaf for leaf in parts if leaf.grad is not None and not leaf.grad.is_sparse]
            self.add([parts[leaf] for leaf in reached], [leaf.grad for leaf in reached])
            parts.clear()

        nodes = {synthetic.grad_fn: None}
        waiting: list[Any] = [*nodes]
        while waiting:
            node = waiting.pop()
            after = [following for following, _ in node.next_functions]
            leaves = [(i, f.variable) for i, f in enumerate(after) if hasattr(f, "variable")]
            if leaves:
                node.register_hook(partial(note, leaves))
            new = {f: None for f in after if f and not hasattr(f, "variable") and f not in nodes}
            nodes |= new
            waiting += new
        engine: Any = torch.autograd.Variable._execution_engine
        return partial(engine.queue_callback, finish)

    def warn(self, weight: float, hooked: bool) -> bool:
        """Whether the usual share is too large; warns then. It makes a GPU wait."""
        share = float(torch.stack([*self.recent]).nanmedian()) if self.recent else 0.0
        clipped = "; if your loop clips the gradient, D³'s comes after that: use mode='loss'"
        if share > LARGE_SHARE:
            warnings.warn(
                f"D³'s part of the generator's gradient is {share:.1%}; above {LARGE_SHARE:.0%} it "
                "may spoil the host's own training. Take "
                f"D3Settings(weight={weight * LARGE_SHARE / 4 / share:.1g}){clipped * hooked}",
                D3Warning,
                stacklevel=5,
            )
        return share > LARGE_SHARE


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    norms = [norm.float() for norm in torch._foreach_norm(list(gradients))]
    whole: Tensor = torch.stack([norm.to(norms[0].device) for norm in norms]).norm()
    return whole
