"""The object that ``attach`` returns: D³ attached to a host."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, Literal, NoReturn

import pluggy
import torch
from torch import Tensor, nn

from d3_plugin.attachment.hook_mode import StepHook
from d3_plugin.attachment.step import Step
from d3_plugin.checks import Count, NonNegative, check_arguments
from d3_plugin.distillation.distiller import Distiller
from d3_plugin.distillation.settings import SCORING, D3Settings, FinalClassifier
from d3_plugin.errors import D3Warning, HostError
from d3_plugin.evaluation.calibration import Chosen, choose_ensemble
from d3_plugin.evaluation.classifier import Classifier
from d3_plugin.evaluation.protocol import make_classifier, score_host
from d3_plugin.evaluation.result import Evaluation
from d3_plugin.hosts.host import Host
from d3_plugin.hosts.isolation import RandomStream, plain_pytorch
from d3_plugin.hosts.labels import LabelForm
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
    ) -> None:
        self.host, self.distiller = host, distiller
        self._hooks, self._seed = hooks, seed
        hooked = mode == "hook"
        self._step = Step(host, hooks, distiller, settings, stream, labels_are, hooked=hooked)
        self._step_hook = StepHook(host, self._step, gather=distiller.gather) if hooked else None
        self._attached = True

    @property
    def settings(self) -> D3Settings:
        """The settings in use; ``weight`` and those of scoring may be replaced at any time."""
        return self._step.settings

    @settings.setter
    def settings(self, settings: D3Settings) -> None:
        self._step.settings = settings

    @property
    def steps(self) -> int:
        """How many steps the student has made."""
        return self._step.update.steps

    @property
    def values(self) -> dict[str, Tensor]:
        """The last step's weighted terms and their ``total``, detached, on the device.

        ``teacher_real`` and ``teacher_synthetic`` are the teacher's highest class probability on
        real and on synthetic rows, mean over the rows of this process. ``gradient_share``, once
        known, is the norm of D³'s part of the generator's gradient over the norm of the whole, at
        the parameters that D³ reaches: in hook mode of the last step; in loss form of the last
        tenth step, in the host's backward pass, before clipping, with all accumulated gradients.
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
        ``backward`` as it does. With a weight above 0 gradient reaches the generator, never teacher
        or student; the student has its own optimiser and learns from the same forward pass.

        Args:
            features: (B, D) real seen rows of the host's batch; they may be overwritten afterwards.
                None: D³ draws ``settings.real_rows`` training rows itself.
            labels: (B,) integer, in the form that ``attach(labels_are=...)`` names.
            attributes: (B, A) instead of labels, for loops that have none: rows of the data's
                attribute matrix, unchanged or divided by their norm.
            update: False leaves the student as it is and draws the classes and noise of the last
                updating call again: for the closure of LBFGS, SAM's second pass, or accumulated
                gradients.

        Returns:
            0-dim tensor: ``settings.weight`` times the sum of the terms. A plain zero at weight 0.

        Raises:
            HostError: the batch does not fit the data, D³ was detached, or it is attached with
                ``mode="hook"`` and adds its gradient itself.
            NotFiniteError: NaN or Inf in too many consecutive steps. A single such step is skipped
                with a warning: it returns zero and changes neither student nor generator.
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
            generator: a copy of the generator to score instead, such as its average over the
                training, also an ``AveragedModel``.
            draws: number of draws of synthetic features for the final classifier, to average over.
            final_classifier: instead of ``settings.final_classifier``; ``host`` with
                ``settings.weight`` 0 scores the baseline.
            ensemble_weight, seen_offset: instead of those in ``settings``, such as values chosen on
                validation classes (:meth:`calibrate`).

        Returns:
            Metrics as means over the draws, with scores, labels and the teacher's scores.

        Raises:
            InputError: an argument outside its range.
            HostError: the host returns features or scores of a wrong shape, or ``generator`` has
                other layers.
            NotFiniteError: a loss or gradient of the last steps was not finite.

        Warns:
            D3Warning: D³ has made no step.
        """
        scoring = self._scoring(D3.evaluate, locals())
        own = self.host.generator
        with plain_pytorch(own), weights_from(own, generator):
            return score_host(self.host, self._hooks, draws=draws, **scoring)

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
            A classifier of features, to be saved and loaded without the host's code or the data.

        Raises:
            InputError, HostError, NotFiniteError: as :meth:`evaluate`.

        Warns:
            D3Warning: D³ has made no step.
        """
        scoring = self._scoring(D3.classifier, locals())
        own = self.host.generator
        with plain_pytorch(own), weights_from(own, generator):
            return make_classifier(self.host, self._hooks, **scoring)

    def _scoring(self, method: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """Seed, student, and the settings of the final classifier: those given, where not None."""
        check_arguments(method, given)
        self._step.update.look()
        names = ("final_classifier", *SCORING)
        settings = replace(self.settings, **{n: given[n] for n in names if given[n] is not None})
        if self.steps == 0 and (settings.weight or settings.final_classifier != "host"):
            why = "d3.loss() was never called"
            if self._step_hook is not None:
                why = "the optimizer given to attach was never stepped; was it created again later?"
            warnings.warn(
                f"D³ has made no step, so neither generator nor student learnt from it: {why}",
                D3Warning,
                stacklevel=3,
            )
        scoring = {name: getattr(settings, name) for name in names}
        return {"seed": self._seed, "distiller": self.distiller, **scoring}

    def __repr__(self) -> str:
        return f"D3({self.host.name}, {self.steps} steps, {self.host.data!r}, {self.settings!r})"

    def calibrate(self, *others: D3, draws: Count = 1) -> Chosen:
        """Choose ``ensemble_weight`` and ``seen_offset`` on validation classes.

        For a D³ whose test rows are of validation classes, without which its host is trained::

            chosen = d3_of_validation.calibrate()  # attach(data=pseudo_unseen(data), ...)
            d3.evaluate(**chosen)                  # on the test rows of data

        The rule is that of ``d3 compare``, see
        :func:`~d3_plugin.evaluation.calibration.choose_ensemble`.

        Args:
            others: D³ of other validation cuts, to choose on all cuts together.
            draws: as in :meth:`evaluate`.

        Raises:
            InputError, HostError, NotFiniteError: as :meth:`evaluate`.
        """
        cuts = (self, *others)
        return choose_ensemble([d3.evaluate(draws=draws, final_classifier="both") for d3 in cuts])

    def detach(self) -> None:
        """Remove D³ from the host, without a trace. ``evaluate`` still works."""
        if self._step_hook is not None:
            self._step_hook.remove()
        self._attached = False
        self._step.update.look()

    def state_dict(self) -> dict[str, Any]:
        """What continues a run: teacher, student, optimiser, random stream and step."""
        return {
            "distiller": self.distiller.state_dict(),
            **self._step.state_dict(),
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
        with plain_pytorch():
            before = copy.deepcopy(self.state_dict())
            try:
                _check_same_problem(state, before)
                self._load(state)
            except Exception as error:  # a damaged part makes PyTorch raise almost anything
                self._load(before)
                raise HostError(
                    f"this state is damaged, or of other data or settings ({error!r}); nothing "
                    "changed"
                ) from error

    def _load(self, state: Mapping[str, Any]) -> None:
        self.distiller.load_state_dict(state["distiller"])
        self._step.load_state_dict(state, self._seed)
        if self._step_hook is not None:
            self._step_hook.host_steps = int(state["host_steps"])

    def __reduce__(self) -> NoReturn:
        """Refuse pickle and copy: the copy would hold a copy of the host that nobody trains."""
        raise HostError("a D3 cannot be copied: save d3.state_dict() for load_state_dict()")


def _check_same_problem(state: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Check that a saved state has the same settings and classes; ValueError names what differs."""
    others = [
        f"{name} was {state['settings'].get(name)!r}, is {now!r}"
        for name, now in own["settings"].items()
        if name not in SCORING and state["settings"].get(name) != now
    ]
    if state["seen_classes"].tolist() != own["seen_classes"].tolist():
        others.append(f"the seen classes were {state['seen_classes'].tolist()[:20]}")
    if others:
        raise ValueError(f"other settings or data: {'; '.join(others)}")
