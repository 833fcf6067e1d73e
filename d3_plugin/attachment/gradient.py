"""D³'s part of the generator's gradient: passed on in the host's backward pass, and measured."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from d3_plugin.distillation.settings import D3Settings
from d3_plugin.distributed import average
from d3_plugin.errors import warn

LARGE_SHARE = 0.04
"""Share above which D³ warns: 6 % spoilt the training of a flow; most hosts are below 3 %."""

SMALL_SHARE = 1e-4
"""Below it the generator's training is as with weight 0."""

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


class GradientToGenerator:
    """D³'s part of the generator's gradient: how large it is, and whether it arrives.

    Args:
        generator: its parameters are compared between two looks.
        weight: of D³'s losses until a share has been measured.

    Attributes:
        weight: the weight in use.
        shares: the last ones, at most ten, 0-dim on the device: norm of D³'s gradient over that of
            the whole, at the parameters that D³ reaches.
        shares_per_weight: each divided by the weight it was measured at; NaN if unusable.
        reached: whether gradient came in a backward pass; None before the first look.
    """

    def __init__(self, generator: nn.Module, weight: float) -> None:
        self._generator = generator
        self.weight: float | Tensor = weight
        self.shares: deque[Tensor] = deque(maxlen=10)
        self.shares_per_weight: deque[Tensor] = deque(maxlen=10)
        self.reached: bool | None = None
        self._lengths: Tensor | None = None  # of the generator's parameters
        self._came = self._warned_of_share = self._warned_of_arrival = False

    def follow(self, settings: D3Settings, *, gather: bool) -> None:
        """Set the weight: that of the settings, or the one at which the share is as they say."""
        self.weight = settings.weight
        if settings.gradient_share and self.shares_per_weight:
            share = torch.stack([*self.shares_per_weight]).nanmedian()
            if gather:
                (share,) = average([share])
            followed = settings.gradient_share / share
            self.weight = torch.where(share.isnan(), settings.weight, followed)

    def pass_on(
        self, synthetic: Tensor, value: Tensor, gradient: Tensor, *, measured: bool
    ) -> Tensor:
        """The loss of this value, whose backward gives ``synthetic`` the weight times ``gradient``.

        Args:
            synthetic: (M, D) rows of the generator, with their graph.
            value: 0-dim.
            gradient: (M, D).
            measured: whether to measure the share, which takes a walk through that graph.
        """
        loss: Tensor = GivenGradient.apply(  # type: ignore[no-untyped-call]
            synthetic, value, self.weight * gradient
        )
        loss.register_hook(self._note)
        if measured:
            loss.register_hook(self._watch(synthetic))
        return loss

    def _note(self, _: Tensor) -> None:
        self._came = self.reached = True

    def add(self, parts: Mapping[Tensor, Tensor]) -> None:
        """Measure from D³'s part of each parameter's gradient; its ``.grad`` is the whole."""
        whole = {p: p.grad for p in parts if p.grad is not None and not p.grad.is_sparse}
        if whole:
            share = _norm([parts[p] for p in whole]) / _norm([*whole.values()])
            usable = share.isfinite() & (share > 0)  # a skipped step has 0
            self.shares.append(share)
            self.shares_per_weight.append((share / self.weight).where(usable, torch.nan))

    def _watch(self, synthetic: Tensor) -> Callable[[Tensor], None]:
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

    def look(self, settings: D3Settings, steps: int, *, hooked: bool, reachable: bool) -> None:
        """Warn once of a share that is too large, too small or unknown; once if nothing is learnt.

        Makes a GPU wait.

        Args:
            settings: those in use.
            steps: since the last look.
            hooked: whether D³ comes after the loop's clipping.
            reachable: False where it is known, and was said, that nothing can arrive.
        """
        if settings.gradient_share and not self._warned_of_share:
            self._warned_of_share = self._warn_if_unknown()
        elif not self._warned_of_share:
            self._warned_of_share = self._warn_of_size(settings.weight, hooked)
        unknown = settings.gradient_share and self._warned_of_share  # which says the same
        if settings.weight and reachable and not unknown:
            self._look_at_arrival(steps)

    def _warn_if_unknown(self) -> bool:
        """Warn and return True if there is no share that the weight could follow."""
        if unknown := all(share.isnan() for share in self.shares_per_weight):
            warn(
                "D³'s share of the generator's gradient cannot be measured, so its weight stays "
                f"{self.weight:g}: no backward() reached the generator through d3.loss()"
            )
        return unknown

    def _warn_of_size(self, weight: float, hooked: bool) -> bool:
        """Warn and return True if the median share is too large or too small."""
        share = float(torch.stack([*self.shares]).nanmedian()) if self.shares else 0.0
        if not (0 < share < SMALL_SHARE or share > LARGE_SHARE):
            return False
        found, why = f"{share:.1g}", "in effect the weight is 0"
        other = ", or 0 for the student alone"
        if share > LARGE_SHARE:
            found = f"{share:.1%}"
            why = f"above {LARGE_SHARE:.0%} it may spoil the host's own training"
            clipped = "; if your loop clips the gradient, D³'s comes after that: use mode='loss'"
            other = clipped * hooked
        warn(
            f"D³'s part of the generator's gradient is {found}; {why}. Take "
            f"D3Settings(weight={weight * LARGE_SHARE / 4 / share:.1g}){other}"
        )
        return True

    def _look_at_arrival(self, steps: int) -> None:
        parameters = [p.detach() for p in self._generator.parameters()]
        lengths = torch.stack([norm.cpu() for norm in torch._foreach_norm(parameters)])
        unchanged = self._lengths is not None and torch.equal(lengths, self._lengths)
        self._lengths = lengths
        came, self._came = self._came, False
        self.reached = bool(self.reached) or came
        if self._warned_of_arrival or (came and not unchanged):
            return
        self._warned_of_arrival = True
        warn(
            f"no gradient of the last {steps} d3.loss() has reached the generator: add it to the "
            "generator's loss before backward(), as in errG = errG + d3.loss(...), not detached"
            if not came
            else f"the generator has not changed in the last {steps} steps, though D³'s gradient "
            "has reached it: give attach the optimizer that is stepped, and step it after backward"
        )


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    norms = [norm.float() for norm in torch._foreach_norm(list(gradients))]
    whole: Tensor = torch.stack([norm.to(norms[0].device) for norm in norms]).norm()
    return whole
