"""The object that ``attach`` returns: D³ beside a host's training loop."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Literal, NoReturn

import pluggy
import torch
from torch import Tensor, nn

from d3_plugin.attachment.hook_mode import StepHook
from d3_plugin.attachment.saved import check_same_problem, load_optimizer
from d3_plugin.attachment.step import Step
from d3_plugin.checks import Count, NonNegative, check_arguments
from d3_plugin.distillation.distiller import Distiller
from d3_plugin.distillation.settings import D3Settings, FinalClassifier
from d3_plugin.distillation.student_step import StudentUpdate
from d3_plugin.distributed import process_rank
from d3_plugin.errors import D3Warning, HostError
from d3_plugin.evaluation.calibration import Chosen, choose_ensemble
from d3_plugin.evaluation.classifier import Classifier
from d3_plugin.evaluation.protocol import make_classifier, score_host
from d3_plugin.evaluation.result import Evaluation
from d3_plugin.hosts.host import Host
from d3_plugin.hosts.isolation import RandomStream, stream_of_rank
from d3_plugin.hosts.labels import HostBatches, LabelForm
from d3_plugin.hosts.module_state import weights_from

Mode = Literal["loss", "hook"]


class D3:
    """D³ attached to a host; made by :func:`d3_plugin.attach`.

    Attributes:
        host: the host as D³ sees it.
        distiller: teacher, student and losses.
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
        self.host, self.distiller = host, distiller
        self._hooks, self._seed, self._gather = hooks, seed, gather
        self._update = StudentUpdate(distiller, host.generator, settings.student_lr, gather=gather)
        batches = HostBatches(host.data, distiller.teacher, labels_are)
        self._step = Step(
            host, hooks, distiller, settings, stream, batches, self._update, hooked=mode == "hook"
        )
        self._attached = True
        self._step_hook = None
        if mode == "hook":
            self._step_hook = StepHook(host, self._step, self._step.share.add, gather=gather)

    @property
    def settings(self) -> D3Settings:
        """The settings in use; those of scoring, and ``weight``, may be replaced meanwhile."""
        return self._step.settings

    @settings.setter
    def settings(self, settings: D3Settings) -> None:
        self._step.settings = settings

    @property
    def steps(self) -> int:
        """How many steps the student has made."""
        return self._update.steps

    @property
    def values(self) -> dict[str, Tensor]:
        """The last step's weighted terms and their ``total``, detached, on the device.

        With them ``teacher_real`` and ``teacher_synthetic``: the teacher's highest class
        probability on real and on synthetic rows, mean over the rows of this process. And, once
        known, ``gradient_share``: the norm of D³'s part of the generator's gradient over the norm
        of the whole, at the parameters that D³ reaches. In hook mode that is of the last step; in
        loss form of the last of every tenth step, seen in the host's own backward pass, before
        clipping; where gradients accumulate, of all that has accumulated.
        """
        return self._step.values

    def loss(
        self,
        features: Tensor | None = None,
        labels: Tensor | None = None,
        attributes: Tensor | None = None,
        *,
        update: bool = True,
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
            update: False leaves the student as it is, and draws classes and noise as the last
                updating call did: for a loss that must stay the same function, in the closure of
                LBFGS, in SAM's second pass, or where gradients accumulate.

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
        if torch._C._functorch.peek_interpreter_stack() is not None:
            raise HostError(
                "loss() cannot run inside torch.func: use backward() or torch.autograd.grad"
            )
        return self._step(features, labels, attributes, update=update)

    def evaluate(
        self,
        *,
        generator: nn.Module | None = None,
        draws: Count = 1,
        final_classifier: FinalClassifier | None = None,
        ensemble_weight: NonNegative | None = None,
        seen_offset: NonNegative | None = None,
    ) -> Evaluation:
        """U, S, H, AUSUC of the +D³ classifier on the test rows.

        Args:
            generator: a copy of the generator, such as its average over the training, whose weights
                stand in for its own meanwhile; an ``AveragedModel`` as it is.
            draws: average over so many draws of synthetic features for the final classifier.
            final_classifier: instead of ``settings.final_classifier``; with ``host`` and
                ``settings.weight`` 0 it is the baseline that is scored.
            ensemble_weight, seen_offset: instead of those in ``settings``, on which training does
                not depend; for values that were chosen on validation classes (:meth:`calibrate`).

        Returns:
            Metrics as means over the draws, with scores, labels and the teacher's scores.

        Raises:
            InputError: an argument outside its range.
            HostError: features or scores of another shape come back from the host, or
                ``generator`` has other layers.
            NotFiniteError: a loss or gradient of the last steps was not finite.

        Warns:
            D3Warning: D³ has made no step.
        """
        check_arguments(D3.evaluate, locals())
        scoring = self._scoring(final_classifier, ensemble_weight, seen_offset)
        with weights_from(self.host.generator, generator):
            return score_host(
                self.host,
                self._hooks,
                seed=self._seed,
                draws=draws,
                distiller=self.distiller,
                **scoring,
            )

    def classifier(
        self,
        *,
        generator: nn.Module | None = None,
        final_classifier: FinalClassifier | None = None,
        ensemble_weight: NonNegative | None = None,
        seen_offset: NonNegative | None = None,
    ) -> Classifier:
        """The +D³ classifier: the one that :meth:`evaluate` scores, of its first draw.

        Args:
            generator, final_classifier, ensemble_weight, seen_offset: see :meth:`evaluate`.

        Returns:
            A classifier that predicts from features, and can be saved and loaded in a process that
            has neither the host's code nor the data.

        Raises:
            InputError, HostError, NotFiniteError: as :meth:`evaluate`.

        Warns:
            D3Warning: D³ has made no step.
        """
        check_arguments(D3.classifier, locals())
        scoring = self._scoring(final_classifier, ensemble_weight, seen_offset)
        with weights_from(self.host.generator, generator):
            return make_classifier(
                self.host, self._hooks, seed=self._seed, distiller=self.distiller, **scoring
            )

    def _scoring(
        self,
        final_classifier: FinalClassifier | None,
        ensemble_weight: float | None,
        seen_offset: float | None,
    ) -> dict[str, Any]:
        """The settings of the final classifier, with those given instead."""
        self._update.look()
        given = {
            "final_classifier": final_classifier,
            "ensemble_weight": ensemble_weight,
            "seen_offset": seen_offset,
        }
        changes: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        settings = replace(self.settings, **changes)
        if self.steps == 0 and (settings.weight or settings.final_classifier != "host"):
            self._warn_no_step()
        return {name: getattr(settings, name) for name in given}

    def __repr__(self) -> str:
        return f"D3({self.host.name}, {self.steps} steps, {self.host.data!r}, {self.settings!r})"

    def calibrate(self, *others: D3, draws: Count = 1) -> Chosen:
        """Choose ``ensemble_weight`` and ``seen_offset`` on validation classes.

        For a D³ whose test rows are of validation classes, so attached to a host that is trained
        without them::

            chosen = d3_of_validation.calibrate()  # attach(data=pseudo_unseen(data), ...)
            d3.evaluate(**chosen)                  # on the test rows of data

        The rule is that of ``d3 compare``, see
        :func:`~d3_plugin.evaluation.calibration.choose_ensemble`.

        Args:
            others: D³ of further validation cuts, to choose on all of them together.
            draws: as in :meth:`evaluate`.

        Raises:
            InputError, HostError, NotFiniteError: as :meth:`evaluate`.
        """
        cuts = (self, *others)
        return choose_ensemble([d3.evaluate(draws=draws, final_classifier="both") for d3 in cuts])

    def _warn_no_step(self) -> None:
        why = "d3.loss() was never called"
        if self._step_hook is not None:
            why = "the optimizer given to attach was never stepped; was it made anew since?"
        warnings.warn(
            f"D³ has made no step, so neither generator nor student learnt from it: {why}",
            D3Warning,
            stacklevel=4,
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
            "random": self._step.stream.state_dict(),
            "rank": process_rank() if self._gather else 0,
            "steps": self.steps,
            "host_steps": 0 if self._step_hook is None else self._step_hook.host_steps,
            "gradient_shares": [*self._step.share.recent],
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
            check_same_problem(state, before)
            self._load(state)
        except Exception as error:  # whatever PyTorch and Python make of a damaged part
            self._load(before)
            raise HostError(
                f"this state is damaged, or of other data or settings ({error!r}); nothing changed"
            ) from error

    def _load(self, state: Mapping[str, Any]) -> None:
        self.distiller.load_state_dict(state["distiller"])
        load_optimizer(self._update.optimizer, state["optimizer"])
        self._update.steps = int(state["steps"])
        if self._step_hook is not None:
            self._step_hook.host_steps = int(state["host_steps"])
        self._step.share.recent.clear()
        for share in state.get("gradient_shares", ()):  # states of earlier versions lack them
            self._step.share.recent.append(share.to(self.host.device))
        if self._gather and state["rank"] != process_rank():
            # Another process saved it: with its stream both would draw the same rows.
            self._step.stream = stream_of_rank(self._seed, self.host.device, self.steps)
        else:
            self._step.stream.load_state_dict(state["random"])
        with self._step.stream:
            pass  # a damaged one shows here, not in the next step

    def __reduce__(self) -> NoReturn:
        """Pickle and copy: a copy would hold a copy of the host, which nobody trains."""
        raise HostError("a D3 cannot be copied: save d3.state_dict() for load_state_dict()")
