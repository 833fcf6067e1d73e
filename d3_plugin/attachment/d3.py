"""The object that ``attach`` returns: D³ beside a host's training loop."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Literal, NoReturn

import pluggy
import torch
from torch import Tensor

from d3_plugin.attachment.hook_mode import StepHook
from d3_plugin.checks import Count, NonNegative, check_arguments
from d3_plugin.distillation.distiller import Distiller
from d3_plugin.distillation.settings import SCORING, D3Settings, FinalClassifier
from d3_plugin.distillation.student_step import StudentUpdate
from d3_plugin.distributed import process_rank
from d3_plugin.errors import D3Warning, HostError, PluginError
from d3_plugin.evaluation.protocol import Evaluation, score_host
from d3_plugin.hosts.host import Host, StepBatch
from d3_plugin.hosts.isolation import RandomStream, stream_of_rank, together
from d3_plugin.hosts.labels import HostBatches, LabelForm
from d3_plugin.hosts.synthesis import synthesize

Mode = Literal["loss", "hook"]


class _GivenGradient(torch.autograd.Function):
    """A value whose gradient with respect to ``synthetic`` is already known."""

    @staticmethod
    def forward(ctx: Any, synthetic: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return outer[0] * gradient, None, None


class D3:
    """D³ attached to a host; made by :func:`d3_plugin.attach`.

    Attributes:
        host: the host as D³ sees it.
        settings: the settings in use.
        distiller: teacher, student and losses.
        values: the last step's weighted terms and their ``total``, detached, on the device.
    """

    def __init__(
        self,
        host: Host,
        hooks: pluggy.HookRelay,
        distiller: Distiller,
        settings: D3Settings,
        stream: RandomStream,
        *,
        mode: Mode,
        labels_are: LabelForm,
        seed: int,
        gather: bool = False,
    ) -> None:
        self.host, self.settings, self.distiller = host, settings, distiller
        self.values: dict[str, Tensor] = {}
        self._hooks, self._stream, self._seed = hooks, stream, seed
        self._gather = gather
        self._update = StudentUpdate(distiller, host.generator, settings.student_lr, gather=gather)
        self._batches = HostBatches(host.data, distiller.teacher, labels_are)
        self._attached, self._warned = True, False
        self._step_hook = None
        if mode == "hook":
            self._step_hook = StepHook(host, self._step, gather=gather)

    @property
    def steps(self) -> int:
        """How many steps the student has made."""
        return self._update.steps

    def loss(
        self,
        features: Tensor | None = None,
        labels: Tensor | None = None,
        attributes: Tensor | None = None,
    ) -> Tensor:
        """One D³ step: updates the student, and returns the generator's extra loss.

        Call it once per generator step, add it to the generator's loss, and let the host call
        ``backward`` as it does. Gradient reaches what synthesis runs through, the generator, and
        never teacher or student; the student is updated from the same forward pass, by an
        optimiser of its own.

        Args:
            features: (B, D) real seen rows of the host's batch; they may be overwritten afterwards.
                None: D³ draws ``settings.real_rows`` training rows itself.
            labels: (B,) integer, in the form that ``attach(labels_are=...)`` names.
            attributes: (B, A) instead of labels, for loops that have none: rows of the data's
                attribute matrix, as they are or divided by their norm.

        Returns:
            0-dim tensor: ``settings.weight`` times the sum of the terms. A plain zero at weight 0.

        Raises:
            HostError: the batch does not fit the data, D³ was detached, or it is attached with
                ``mode="hook"`` and adds its gradient itself.
            NotFiniteError: NaN or Inf in too many steps in a row. A single such step is left out,
                with a warning: zero comes back, and neither student nor generator are changed.
        """
        if not self._attached:
            raise HostError("this D³ was detached; attach again to use its loss")
        if torch.is_inference_mode_enabled():
            raise HostError("call loss() in the training loop, not under torch.inference_mode()")
        if self._step_hook is not None:
            raise HostError('mode="hook" adds the gradient itself; to add loss() use mode="loss"')
        return self._step(features, labels, attributes)

    def _step(self, *batch_parts: Tensor | None) -> Tensor:
        reaches_generator = (
            self.settings.weight > 0
            and torch.is_grad_enabled()
            and any(p.requires_grad for p in self.host.generator.parameters())
        )
        if self.settings.weight > 0 and not reaches_generator:
            self._warn_unreachable()
        grad_mode = partial(torch._C._set_grad_enabled, torch.is_grad_enabled())
        undo = together([self._stream.outside(), grad_mode])
        try:
            self._stream.begin()
            torch._C._set_grad_enabled(True)
            synthetic, gradient, good = self._distil(reaches_generator, *batch_parts)
            self._stream.end()
        finally:
            undo()
        weight = self.settings.weight
        value = (weight * self.values["total"]).masked_fill(~good, 0.0)
        self._hooks.d3_after_step(host=self.host, step=self.steps, values=dict(self.values))
        if gradient is None:
            return value
        result: Tensor = _GivenGradient.apply(synthetic, value, weight * gradient)  # type: ignore[no-untyped-call]
        return result

    def _distil(
        self, differentiable: bool, *batch_parts: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Steps the student; synthetic rows, the gradient for them, and whether all was finite."""
        real, real_labels = self._real_rows(*batch_parts)
        unseen = self.host.data.unseen_classes
        drawn = torch.randint(len(unseen), (self.settings.synthetic_rows,), device=unseen.device)
        classes = unseen[drawn]
        synthetic = synthesize(self.host, self._hooks, classes, differentiable=differentiable)
        # float32: the gradient of a half-precision leaf would underflow before it is scaled.
        rows = synthetic.detach().float().requires_grad_(differentiable)
        batch = self.distiller.batch(rows, real, torch.cat([classes, real_labels]))
        total = self._total(batch)
        parts = {"synthetic rows": rows, "real rows": real, **self.values}
        gradient, good = self._update(total, rows if differentiable else None, parts)
        return synthetic, gradient, good

    def _real_rows(self, *batch_parts: Tensor | None) -> tuple[Tensor, Tensor]:
        if any(part is not None for part in batch_parts):
            return self._batches.read(*batch_parts)
        data = self.host.data
        number = len(data.train_labels)
        rows = torch.randint(number, (self.settings.real_rows,), device=data.train_labels.device)
        return data.train_features[rows], data.train_labels[rows]

    def _total(self, batch: StepBatch) -> Tensor:
        terms = self.distiller.terms(batch)
        hook = self._hooks.d3_extra_terms
        try:
            for answer in hook(host=self.host, batch=batch):
                if clash := sorted(terms.keys() & answer.keys()):
                    raise ValueError(f"terms named {clash} exist already")
                if any(term.shape != () for term in answer.values()):
                    raise ValueError(f"terms must be 0-dim tensors, got {answer}")
                terms.update(answer)
        except Exception as error:  # a third party's code
            names = ", ".join(each.plugin_name for each in hook.get_hookimpls())
            raise PluginError(f"d3_extra_terms (plugins: {names}) failed: {error!r}") from error
        # By name: hooks answer in reverse order of registration, and float sums depend on order.
        total = sum((terms[name] for name in sorted(terms)), start=batch.features.new_zeros(()))
        self.values = {name: term.detach() for name, term in terms.items()}
        self.values["total"] = total.detach()
        return total

    def _warn_unreachable(self) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                "loss() was called where no gradient can reach the generator (under no_grad, or "
                "with requires_grad off in all its parameters); the student learns, the generator "
                "does not. Call it in the generator's step.",
                D3Warning,
                stacklevel=3,
            )

    def evaluate(
        self,
        *,
        draws: Count = 1,
        final_classifier: FinalClassifier | None = None,
        ensemble_weight: NonNegative | None = None,
        seen_offset: NonNegative | None = None,
    ) -> Evaluation:
        """U, S, H, AUSUC of the +D³ classifier on the test rows.

        Args:
            draws: average over so many draws of synthetic features for the final classifier.
            final_classifier: instead of ``settings.final_classifier``; with ``host`` and
                ``settings.weight`` 0 it is the baseline that is scored.
            ensemble_weight, seen_offset: instead of those in ``settings``, on which training does
                not depend; for values that were chosen on validation classes of your own.

        Returns:
            Metrics as means over the draws, with scores, labels and the teacher's scores.

        Raises:
            InputError: an argument outside its range.
            HostError: features or scores of another shape come back from the host.
            NotFiniteError: a loss or gradient of the last steps was not finite.
        """
        check_arguments(D3.evaluate, locals())
        self._update.look()
        instead = {
            "final_classifier": final_classifier,
            "ensemble_weight": ensemble_weight,
            "seen_offset": seen_offset,
        }
        changes: dict[str, Any] = {k: v for k, v in instead.items() if v is not None}
        settings = replace(self.settings, **changes)
        return score_host(
            self.host,
            self._hooks,
            seed=self._seed,
            draws=draws,
            distiller=self.distiller,
            final_classifier=settings.final_classifier,
            ensemble_weight=settings.ensemble_weight,
            seen_offset=settings.seen_offset,
        )

    def detach(self) -> None:
        """Remove D³ from the host; nothing of it is left. ``evaluate`` still works."""
        if self._step_hook is not None:
            self._step_hook.remove()
        self._attached = False
        self._update.look()

    def state_dict(self) -> dict[str, Any]:
        """Everything that continues a run: heads, their optimiser, the random stream, the step."""
        return {
            "distiller": self.distiller.state_dict(),
            "optimizer": self._update.optimizer.state_dict(),
            "random": self._stream.state_dict(),
            "rank": process_rank() if self._gather else 0,
            "steps": self.steps,
            "host_steps": 0 if self._step_hook is None else self._step_hook.host_steps,
            "settings": asdict(self.settings),
            "seen_classes": self.host.data.seen_classes,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state_dict`.

        Settings that only scoring depends on may differ; they are not taken from the state.

        Raises:
            HostError: the state is damaged, or of other classes, features or settings; nothing is
                changed then.
        """
        before = copy.deepcopy(self.state_dict())
        try:
            others = [
                f"{name} was {state['settings'].get(name)!r}, is {now!r}"
                for name, now in asdict(self.settings).items()
                if name not in SCORING and state["settings"].get(name) != now
            ]
            if state["seen_classes"].tolist() != self.host.data.seen_classes.tolist():
                others.append(f"the seen classes were {state['seen_classes'].tolist()[:20]}")
            if others:
                raise ValueError(f"other settings or data: {'; '.join(others)}")
            self._load(state)
        except Exception as error:  # whatever PyTorch and Python make of a damaged part
            self._load(before)
            raise HostError(
                f"this state does not fit or is damaged ({error!r}); nothing was changed. Attach "
                "with the same data and settings first"
            ) from error

    def _load(self, state: Mapping[str, Any]) -> None:
        self.distiller.load_state_dict(state["distiller"])
        optimizer = self._update.optimizer
        options = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
        optimizer.load_state_dict(state["optimizer"])
        for group, own in zip(optimizer.param_groups, options, strict=True):
            group.update(own)  # they follow from the settings, which agree
        for parameter, moments in optimizer.state.items():
            if any(moments[name].shape != parameter.shape for name in ("exp_avg", "exp_avg_sq")):
                raise ValueError("the optimiser's moments are of other shapes than its parameters")
        self._update.steps = int(state["steps"])
        if self._step_hook is not None:
            self._step_hook.host_steps = int(state["host_steps"])
        if self._gather and state["rank"] != process_rank():
            # Another process saved it: with its stream both would draw the same rows.
            self._stream = stream_of_rank(self._seed, self.host.device, self.steps)
        else:
            self._stream.load_state_dict(state["random"])
        with self._stream:
            pass  # a damaged one shows here, not in the next step

    def __reduce__(self) -> NoReturn:
        """Pickle and copy: a copy would hold a copy of the host, which nobody trains."""
        raise HostError("a D3 cannot be copied: save d3.state_dict() for load_state_dict()")
