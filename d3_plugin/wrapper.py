"""The object that ``attach`` returns: D³ beside a host's training loop."""

from __future__ import annotations

import copy
import sys
import warnings
import weakref
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

import pluggy
import torch
from torch import Tensor
from torch.amp import grad_scaler

from d3_plugin.distiller import Distiller
from d3_plugin.errors import D3Warning, HostError, PluginError, Problems
from d3_plugin.evaluation.protocol import Evaluation, evaluate
from d3_plugin.host import Host, StepBatch
from d3_plugin.host_batches import HostLabels, LabelForm
from d3_plugin.isolation import RandomStream
from d3_plugin.settings import D3Settings, FinalClassifier
from d3_plugin.synthesis import synthesize

Mode = Literal["loss", "hook"]


# Optimisers that a D³ in mode="hook" is on: a second one, from a notebook cell run twice, would
# silently double the gradient.
_hooked: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()


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
        steps: how many steps the student has made.
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
    ) -> None:
        self.host, self.settings, self.distiller = host, settings, distiller
        self.steps = 0
        self.values: dict[str, Tensor] = {}
        self._hooks, self._stream, self._seed = hooks, stream, seed
        self._optimizer = torch.optim.Adam(distiller.learned(), lr=settings.student_lr)
        self._labels = HostLabels(host.data, distiller.teacher, labels_are)
        self._attached, self._warned = True, False
        self._handle = None
        if mode == "hook":
            if host.optimizer in _hooked:
                raise HostError(
                    'D³ is attached to this optimizer with mode="hook" already; call detach() on '
                    "the first D³, or both would add their gradients"
                )
            _hooked.add(host.optimizer)
            self._handle = host.optimizer.register_step_pre_hook(self._before_step)

    def loss(self, features: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """One D³ step: updates the student, and returns the generator's extra loss.

        Call it once per generator step, add it to the generator's loss, and let the host call
        ``backward`` as it does. Gradient reaches what synthesis runs through, the generator, and
        never teacher or student; the student is updated from the same forward pass, by an
        optimiser of its own.

        Args:
            features: (B, D) real seen rows of the host's batch; they may be overwritten afterwards.
                None: D³ draws ``settings.real_rows`` training rows itself.
            labels: (B,) integer, in the form that ``attach(labels_are=...)`` names. Leave out
                together with ``features``.

        Returns:
            0-dim tensor: ``settings.weight`` times the sum of the terms. A plain zero at weight 0.

        Raises:
            HostError: features or labels do not fit the data, D³ was detached, or it is attached
                with ``mode="hook"`` and adds its gradient itself.
        """
        if not self._attached:
            raise HostError("this D³ was detached; attach again to use its loss")
        if self._handle is not None:
            raise HostError(
                'attached with mode="hook", D³ adds its gradient in optimizer.step(); for '
                "errG = errG + d3.loss(...) attach with mode='loss'"
            )
        return self._step(features, labels)

    def _step(self, features: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        reaches_generator = (
            self.settings.weight > 0
            and torch.is_grad_enabled()
            and any(p.requires_grad for p in self.host.generator.parameters())
        )
        if self.settings.weight > 0 and not reaches_generator:
            self._warn_unreachable()
        with self._stream, torch.enable_grad():
            real, real_labels = self._real_rows(features, labels)
            unseen = self.host.data.unseen_classes
            wanted = (self.settings.synthetic_rows,)
            classes = unseen[torch.randint(len(unseen), wanted, device=unseen.device)]
            synthetic = synthesize(
                self.host, self._hooks, classes, differentiable=reaches_generator
            )
            # float32: the gradient of a half-precision leaf would underflow before it is scaled.
            rows = synthetic.detach().float().requires_grad_(reaches_generator)
            batch = self.distiller.batch(rows, real, torch.cat([classes, real_labels]))
            total = self._total(batch)
            gradient = self._update_student(total, rows if reaches_generator else None)
        weight = self.settings.weight
        total = self.values["total"]
        value = weight * total if weight else torch.zeros_like(total)
        self._hooks.d3_after_step(host=self.host, step=self.steps, values=dict(self.values))
        if gradient is None:
            return value
        result: Tensor = _GivenGradient.apply(synthetic, value, weight * gradient)  # type: ignore[no-untyped-call]
        return result

    def _real_rows(self, features: Tensor | None, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        if (features is None) != (labels is None):
            raise HostError(
                "loss() takes features and labels together; without either D³ draws its own "
                "real rows"
            )
        if features is not None and labels is not None:
            return self._labels.checked(features, labels)
        data = self.host.data
        number = len(data.train_labels)
        rows = torch.randint(number, (self.settings.real_rows,), device=data.train_labels.device)
        return data.train_features[rows], data.train_labels[rows]

    def _total(self, batch: StepBatch) -> Tensor:
        terms = self.distiller.terms(batch)
        for answer in self._hooks.d3_extra_terms(host=self.host, batch=batch):
            clash = sorted(terms.keys() & answer.keys())
            if clash:
                raise PluginError(f"d3_extra_terms: terms named {clash} exist already")
            terms.update(answer)
        # By name: hooks answer in reverse order of registration, and float sums depend on order.
        total = sum((terms[name] for name in sorted(terms)), start=batch.features.new_zeros(()))
        self.values = {name: term.detach() for name, term in terms.items()}
        self.values["total"] = total.detach()
        return total

    def _update_student(self, total: Tensor, rows: Tensor | None) -> Tensor | None:
        """Step the student; returns the gradient of ``total`` with respect to ``rows``."""
        self.steps += 1
        if not total.requires_grad:
            return None if rows is None else torch.zeros_like(rows)
        learned = self.distiller.learned()
        wanted = learned if rows is None else [*learned, rows]
        gradients = torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)
        for parameter, gradient in zip(learned, gradients, strict=False):
            parameter.grad = gradient
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return None if rows is None else gradients[-1]

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """Step pre-hook of ``mode="hook"``: adds D³'s gradient to the generator's."""
        if any(callable(a) for a in (*args, *kwargs.values())):
            raise HostError(
                'mode="hook" does not work with optimizer.step(closure): the closure makes the '
                "gradients anew afterwards. Use the explicit form, errG = errG + d3.loss(...), "
                "inside the closure"
            )
        _refuse_grad_scaler()
        with torch.enable_grad():
            extra = self._step()
        if not extra.requires_grad:
            return
        parameters = [p for p in self.host.generator.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(extra, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

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
        self, *, draws: int = 1, final_classifier: FinalClassifier | None = None
    ) -> Evaluation:
        """U, S, H, AUSUC of the +D³ classifier on the test rows.

        Args:
            draws: average over so many draws of synthetic features for the final classifier.
            final_classifier: instead of ``settings.final_classifier``; with ``host`` and weight 0
                it is the baseline that is scored.
        """
        return evaluate(
            self.host,
            self._hooks,
            seed=self._seed,
            draws=draws,
            distiller=self.distiller,
            final_classifier=final_classifier or self.settings.final_classifier,
        )

    def detach(self) -> None:
        """Remove D³ from the host; nothing of it is left. ``evaluate`` still works."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
            _hooked.discard(self.host.optimizer)
        self._attached = False

    def state_dict(self) -> dict[str, Any]:
        """Everything that continues a run: heads, their optimiser, the random stream, the step."""
        return {
            "distiller": self.distiller.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "random": self._stream.state_dict(),
            "steps": self.steps,
            "settings": asdict(self.settings),
            "seen_classes": self.host.data.seen_classes,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state_dict`.

        Raises:
            HostError: the state is of other classes, features or settings; lists what differs, and
                nothing is changed then.
        """
        problems = Problems("this state does not fit; attach with the same data and settings first")
        own = self.state_dict()
        if not isinstance(state, Mapping):
            raise HostError(f"a state is what state_dict() returned, got {type(state).__name__}")
        for part in sorted(own.keys() - state.keys()):
            problems.add(f"part {part!r} is missing")
        for part in sorted(own.keys() & state.keys()):
            kind = Tensor if part == "seen_classes" else int if part == "steps" else Mapping
            got = type(state[part]).__name__
            problems.check(isinstance(state[part], kind), f"part {part!r} is a {got}")
        if not problems.found:
            for name in own["settings"]:
                was, now = state["settings"].get(name), own["settings"][name]
                problems.check(was == now, f"setting {name} was {was!r}, is {now!r}")
            seen = state["seen_classes"].tolist()
            problems.check(
                seen == own["seen_classes"].tolist(), f"the seen classes were {seen[:20]}"
            )
            was, now = state["distiller"], own["distiller"]
            for name in sorted(was.keys() | now.keys()):
                same = name in was and name in now and was[name].shape == now[name].shape
                problems.check(same, f"tensor {name} is absent or of another shape")
        problems.raise_as(HostError)
        before = copy.deepcopy(own)
        try:
            self._load(state)
        except Exception as error:  # whatever PyTorch makes of a damaged part
            self._load(before)
            raise HostError(
                f"this state is damaged ({type(error).__name__}: {error}); nothing was changed"
            ) from error

    def _load(self, state: Mapping[str, Any]) -> None:
        self._optimizer.load_state_dict(state["optimizer"])
        self._stream.load_state_dict(state["random"])
        self.distiller.load_state_dict(state["distiller"])
        self.steps = int(state["steps"])


def _refuse_grad_scaler() -> None:
    """Under a GradScaler the gradients in a pre-hook may be scaled, or the step skipped."""
    frame = sys._getframe(1)
    for _ in range(12):
        if frame.f_back is None:
            return
        frame = frame.f_back
        if frame.f_code.co_filename == grad_scaler.__file__:
            raise HostError(
                'mode="hook" does not work under a GradScaler, whose gradients are scaled and '
                "whose steps may be skipped. Use the explicit form: attach(..., mode='loss') and "
                "errG = errG + d3.loss(features=..., labels=...) before scaler.scale(errG)"
            )
