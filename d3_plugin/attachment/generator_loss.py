"""D³'s part of the generator's loss; computing it trains the student."""

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
from d3_plugin.distillation.student_trainer import LOOK_EVERY, StudentTrainer
from d3_plugin.distributed import process_rank
from d3_plugin.errors import D3Warning
from d3_plugin.hooks.calls import after_step, extra_terms
from d3_plugin.hosts.host import Host, StepBatch
from d3_plugin.hosts.isolation import RandomStream, stream_of_rank
from d3_plugin.hosts.labels import HostBatches, LabelForm
from d3_plugin.hosts.synthesis import synthesize


class GeneratorLoss:
    """The extra loss of the generator, see :meth:`d3_plugin.D3.loss`.

    Args:
        host, hooks, distiller, settings: as in :class:`d3_plugin.D3`.
        stream: where D³'s random numbers come from.
        labels_are: form of the labels in the host's batch.
        hooked: whether the optimiser's hook measures D³'s share of the gradient; otherwise it is
            measured in the host's backward pass.

    Attributes:
        settings: those in use.
        stream: the one in use.
        student: trains it.
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
        self.student = StudentTrainer(distiller, host.generator, settings.student_lr)
        self.share = GradientShare(settings.weight)
        self._terms: dict[str, Tensor] = {}
        self._teacher_logits: dict[str, Tensor] = {}  # of real and of synthetic rows
        self._warned_unreachable = self._warned_share = False

    def __call__(
        self,
        features: Tensor | None = None,
        labels: Tensor | None = None,
        attributes: Tensor | None = None,
        *,
        update: bool = True,
    ) -> Tensor:
        """The extra loss, 0-dim; arguments as for ``loss()``."""
        settings, share = self.settings, self.share
        reached = settings.weight > 0 and self._generator_is_reached()
        if not settings.gradient_share:
            share.weight = settings.weight
        elif update:  # a closure's further passes keep the weight
            gather = self._distiller.gather
            share.follow(settings.gradient_share, settings.weight, gather=gather)
        with self.stream.drawing(again=not update), torch.enable_grad():
            real, real_labels = self._real_rows(features, labels, attributes)
            classes = self._unseen_classes()
            synthetic = synthesize(self._host, self._hooks, classes, differentiable=reached)
            # float32: the gradient of a half-precision leaf would underflow before it is scaled.
            rows = synthetic.detach().float().requires_grad_(reached)
            batch = self._distiller.batch(rows, real, torch.cat([classes, real_labels]))
            total = self._total(batch)
            parts = {"synthetic rows": rows, "real rows": real, **self._terms}
            gradient, finite = self.student.train(
                total, rows if reached else None, parts, step=update
            )
        of_teacher, n = batch.teacher_logits.detach(), batch.num_synthetic
        self._teacher_logits = {"synthetic": of_teacher[:n], "real": of_teacher[n:]}
        value = self._terms["total"]
        value = (
            share.weight * value.masked_fill(~finite, 0.0)
            if settings.weight
            else torch.zeros_like(value)
        )
        if update:
            self._after_step()
        if gradient is None:
            return value
        loss: Tensor = GivenGradient.apply(synthetic, value, share.weight * gradient)  # type: ignore[no-untyped-call]
        measured = settings.gradient_share or self.student.steps % MEASURE_EVERY == 1
        if update and measured and not self._hooked:
            loss.register_hook(share.watch(synthetic))
        return loss

    @property
    def values(self) -> dict[str, Tensor]:
        """See :attr:`d3_plugin.D3.values`."""
        values = {name: term.clone() for name, term in self._terms.items()}
        for name, logits in self._teacher_logits.items():
            values[f"teacher_{name}"] = logits.softmax(dim=1).amax(dim=1).mean()
        if self.share.recent:
            values["gradient_share"] = self.share.recent[-1].clone()
        return values

    def _generator_is_reached(self) -> bool:
        parameters = self._host.generator.parameters()
        reached = torch.is_grad_enabled() and any(p.requires_grad for p in parameters)
        if not reached and not self._warned_unreachable:
            self._warned_unreachable = True
            warnings.warn(
                "loss() was called where no gradient can reach the generator (under no_grad, or "
                "with requires_grad off in all its parameters); the student learns, the generator "
                "does not. Call it in the generator's step.",
                D3Warning,
                stacklevel=4,
            )
        return reached

    def _real_rows(
        self, features: Tensor | None, labels: Tensor | None, attributes: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Those of the host's batch, or drawn from the training rows; and their class ids."""
        if features is not None or labels is not None or attributes is not None:
            return self._batches.read(features, labels, attributes)
        features, labels = self._host.data.train_features, self._host.data.train_labels
        drawn = torch.randint(len(labels), (self.settings.real_rows,), device=labels.device)
        return features[drawn], labels[drawn]

    def _unseen_classes(self) -> Tensor:
        unseen = self._host.data.unseen_classes
        number = self.settings.synthetic_rows
        return unseen[torch.randint(len(unseen), (number,), device=unseen.device)]

    def _total(self, batch: StepBatch) -> Tensor:
        terms = self._distiller.terms(batch)
        if self._hooks.d3_extra_terms.get_hookimpls():
            terms |= extra_terms(self._hooks, self._host, batch, terms)
        # By name: hooks answer in reverse order of registration, and float sums depend on order.
        total = sum([terms[name] for name in sorted(terms)], start=batch.features.new_zeros(()))
        self._terms = {name: term.detach() for name, term in terms.items()}
        self._terms["total"] = total.detach()
        return total

    def _after_step(self) -> None:
        steps = self.student.steps
        if self._hooks.d3_after_step.get_hookimpls():
            after_step(self._hooks, self._host, steps, self.values)
        if steps % LOOK_EVERY == 0 and not self._warned_share:
            if self.settings.gradient_share:
                self._warned_share = self.share.warn_unknown()
            else:
                self._warned_share = self.share.warn(self.settings.weight, self._hooked)

    def state_dict(self) -> dict[str, Any]:
        """The student's optimiser and steps, the random stream and the latest gradient shares."""
        return {
            "optimizer": self.student.optimizer.state_dict(),
            "random": self.stream.state_dict(),
            "rank": process_rank() if self._distiller.gather else 0,
            "steps": self.student.steps,
            "gradient_shares": [*self.share.recent],
            "shares_per_weight": [*self.share.per_weight],
        }

    def load_state_dict(self, state: Mapping[str, Any], seed: int) -> None:
        """Continue from :meth:`state_dict`; ``seed`` as in ``attach``."""
        self.student.load_state_dict(state["optimizer"], int(state["steps"]))
        for own, saved in (
            (self.share.recent, state["gradient_shares"]),
            (self.share.per_weight, state["shares_per_weight"]),
        ):
            own.clear()
            own.extend(share.to(self._host.device) for share in saved)
        if self._distiller.gather and state["rank"] != process_rank():
            # Another process saved it: with its stream both would draw the same rows.
            self.stream = stream_of_rank(seed, self._host.device, self.student.steps)
        else:
            self.stream.load_state_dict(state["random"])
        with self.stream:
            pass  # a damaged one shows here, not in the next step
