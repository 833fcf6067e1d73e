"""A step of D³: synthesises rows, updates the student, gives the generator its gradient."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import pluggy
import torch
from torch import Tensor

from d3_plugin.attachment.gradient import MEASURE_EVERY, GivenGradient, GradientShare
from d3_plugin.distillation.distiller import Distiller
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.distillation.student_step import LOOK_EVERY, StudentUpdate
from d3_plugin.distributed import process_rank
from d3_plugin.errors import D3Warning, PluginError
from d3_plugin.hosts.host import Host, StepBatch
from d3_plugin.hosts.isolation import RandomStream, stream_of_rank
from d3_plugin.hosts.labels import HostBatches, LabelForm
from d3_plugin.hosts.synthesis import synthesize


class Step:
    """Makes steps, see :meth:`d3_plugin.D3.loss`.

    Args:
        host, hooks, distiller, settings: as in :class:`d3_plugin.D3`.
        stream: where D³'s random numbers come from.
        labels_are: form of the labels in the host's batch.
        hooked: whether the optimiser's hook measures D³'s share of the gradient; otherwise it is
            measured in the host's backward pass.

    Attributes:
        settings: those in use.
        stream: the one in use.
        update: the student's.
        share: D³'s of the generator's gradient.
    """

    def __init__(
        self,
        host: Host,
        hooks: pluggy.HookRelay,
        distiller: Distiller,
        settings: D3Settings,
        stream: RandomStream,
        labels_are: LabelForm,
        *,
        hooked: bool,
    ) -> None:
        self._host, self._hooks, self._distiller, self.settings = host, hooks, distiller, settings
        self.stream, self._hooked = stream, hooked
        self._batches = HostBatches(host.data, distiller.teacher, labels_are)
        self.update = StudentUpdate(distiller, host.generator, settings.student_lr)
        self.share = GradientShare()
        self._terms: dict[str, Tensor] = {}
        self._scored: dict[str, Tensor] = {}  # the teacher's logits, by domain
        self._warned_unreachable = self._warned_share = False

    @property
    def values(self) -> dict[str, Tensor]:
        """See :attr:`d3_plugin.D3.values`."""
        values = dict(self._terms)
        for name, logits in self._scored.items():
            values[f"teacher_{name}"] = logits.softmax(dim=1).amax(dim=1).mean()
        if self.share.recent:
            values["gradient_share"] = self.share.recent[-1]
        return values

    def __call__(self, *batch_parts: Tensor | None, update: bool = True) -> Tensor:
        """The generator's extra loss; ``update`` as for ``loss()``."""
        weight = self.settings.weight
        reaches_generator = (
            weight > 0
            and torch.is_grad_enabled()
            and any(p.requires_grad for p in self._host.generator.parameters())
        )
        if weight > 0 and not reaches_generator and not self._warned_unreachable:
            self._warned_unreachable = True
            warnings.warn(
                "loss() was called where no gradient can reach the generator (under no_grad, or "
                "with requires_grad off in all its parameters); the student learns, the generator "
                "does not. Call it in the generator's step.",
                D3Warning,
                stacklevel=3,
            )
        with self.stream.drawing(again=not update), torch.enable_grad():
            synthetic, gradient, good = self._distil(reaches_generator, update, *batch_parts)
        total = self._terms["total"]
        value = (weight * total).masked_fill(~good, 0.0) if weight else torch.zeros_like(total)
        if update:
            self._after_step()
        if gradient is None:
            return value
        result: Tensor = GivenGradient.apply(synthetic, value, weight * gradient)  # type: ignore[no-untyped-call]
        if update and not self._hooked and self.update.steps % MEASURE_EVERY == 1:
            result.register_hook(self.share.watch(synthetic))
        return result

    def _after_step(self) -> None:
        steps = self.update.steps
        if self._hooks.d3_after_step.get_hookimpls():
            self._hooks.d3_after_step(host=self._host, step=steps, values=self.values)
        if steps % LOOK_EVERY == 0 and not self._warned_share:
            self._warned_share = self.share.warn(self.settings.weight, self._hooked)

    def _distil(
        self, differentiable: bool, update: bool, *batch_parts: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Update the student; returns synthetic rows, their gradient, and if all was finite."""
        real, real_labels = self._real_rows(*batch_parts)
        unseen = self._host.data.unseen_classes
        drawn = torch.randint(len(unseen), (self.settings.synthetic_rows,), device=unseen.device)
        classes = unseen[drawn]
        synthetic = synthesize(self._host, self._hooks, classes, differentiable=differentiable)
        # float32: the gradient of a half-precision leaf would underflow before it is scaled.
        rows = synthetic.detach().float().requires_grad_(differentiable)
        batch = self._distiller.batch(rows, real, torch.cat([classes, real_labels]))
        total = self._total(batch)
        parts = {"synthetic rows": rows, "real rows": real, **self._terms}
        gradient, good = self.update(total, rows if differentiable else None, parts, step=update)
        logits, n = batch.teacher_logits.detach(), batch.num_synthetic
        self._scored = {"synthetic": logits[:n], "real": logits[n:]}
        return synthetic, gradient, good

    def _real_rows(self, *batch_parts: Tensor | None) -> tuple[Tensor, Tensor]:
        if any(part is not None for part in batch_parts):
            return self._batches.read(*batch_parts)
        data = self._host.data
        number = len(data.train_labels)
        rows = torch.randint(number, (self.settings.real_rows,), device=data.train_labels.device)
        return data.train_features[rows], data.train_labels[rows]

    def _total(self, batch: StepBatch) -> Tensor:
        terms = self._distiller.terms(batch)
        hook = self._hooks.d3_extra_terms
        try:
            for answer in hook(host=self._host, batch=batch):
                if clash := sorted(terms.keys() & answer.keys()):
                    raise ValueError(f"terms named {clash} already exist")
                if any(term.shape != () for term in answer.values()):
                    raise ValueError(f"terms must be 0-dim tensors, got {answer}")
                terms.update(answer)
        except Exception as error:  # a third party's code
            names = ", ".join(each.plugin_name for each in hook.get_hookimpls())
            raise PluginError(f"d3_extra_terms (plugins: {names}) failed: {error!r}") from error
        # By name: hooks answer in reverse order of registration, and float sums depend on order.
        total = sum([terms[name] for name in sorted(terms)], start=batch.features.new_zeros(()))
        self._terms = {name: term.detach() for name, term in terms.items()}
        self._terms["total"] = total.detach()
        return total

    def state_dict(self) -> dict[str, Any]:
        """The student's optimiser and steps, the random stream and the latest gradient shares."""
        return {
            "optimizer": self.update.optimizer.state_dict(),
            "random": self.stream.state_dict(),
            "rank": process_rank() if self._distiller.gather else 0,
            "steps": self.update.steps,
            "gradient_shares": [*self.share.recent],
        }

    def load_state_dict(self, state: Mapping[str, Any], seed: int) -> None:
        """Continue from :meth:`state_dict`; ``seed`` as in ``attach``."""
        _load_adam(self.update.optimizer, state["optimizer"])
        self.update.steps = int(state["steps"])
        self.share.recent.clear()
        # States of earlier versions lack them.
        self.share.recent.extend(s.to(self._host.device) for s in state.get("gradient_shares", ()))
        if self._distiller.gather and state["rank"] != process_rank():
            # Another process saved it: with its stream both would draw the same rows.
            self.stream = stream_of_rank(seed, self._host.device, self.update.steps)
        else:
            self.stream.load_state_dict(state["random"])
        with self.stream:
            pass  # a damaged one shows here, not in the next step


def _load_adam(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load the moments, but not the options, which follow from the settings.

    Raises:
        ValueError: the moments are of other shapes than the parameters.
    """
    own = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({**state, "param_groups": own})
    for parameter, moments in optimizer.state.items():
        if any(moments[name].shape != parameter.shape for name in ("exp_avg", "exp_avg_sq")):
            raise ValueError("the optimiser's moments are of other shapes than its parameters")
