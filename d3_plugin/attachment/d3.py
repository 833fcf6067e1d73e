"""The object that ``attach`` returns: D³ attached to a host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from d3_plugin.attachment.check import Check, findings
from d3_plugin.attachment.generator_loss import GeneratorLoss
from d3_plugin.attachment.hook_mode import OptimizerHook
from d3_plugin.attachment.saved_state import continue_from, state_of
from d3_plugin.checks import Count, NonNegative, checked
from d3_plugin.distillation.settings import D3Settings, FinalClassifier
from d3_plugin.errors import HostError
from d3_plugin.evaluation.calibration import Chosen, choose_ensemble
from d3_plugin.evaluation.classifier import Classifier
from d3_plugin.evaluation.protocol import Scored
from d3_plugin.evaluation.result import Evaluation
from d3_plugin.hosts.batch_values import Rows
from d3_plugin.hosts.isolation import plain_pytorch
from d3_plugin.hosts.module_state import weights_from

_BEGUN = 50  # steps after which the generator counts as trained, and its rows are checked


class D3:
    """D³ attached to a host; made by :func:`d3_plugin.attach`.

    Attributes:
        host: the host as D³ sees it.
        distiller: teacher, student and losses.
    """

    def __init__(self, loss: GeneratorLoss, seed: int) -> None:
        self.host, self.distiller = loss.host, loss.distiller
        self._loss, self._hooks, self._seed = loss, loss.hooks, seed
        self._optimizer_hook = OptimizerHook(loss) if loss.hooked else None
        if not loss.hooked:  # a compiled step calls it outside its graph
            self.loss = torch.compiler.disable(self.loss)  # type: ignore[method-assign]
        self._attached = True

    @property
    def settings(self) -> D3Settings:
        """The settings in use.

        Those that take effect at any time may be replaced, as in
        ``d3.settings = dataclasses.replace(d3.settings, weight=0.1)``: the weight, the numbers of
        rows, and what ``evaluate()`` combines. For others, attach again.

        Raises:
            InputError: other settings would change; names them.
        """
        return self._loss.settings

    @settings.setter
    def settings(self, settings: D3Settings) -> None:
        self._loss.change(settings)

    @property
    def steps(self) -> int:
        """How many steps the student has made."""
        return self._loss.student.steps

    @property
    def values(self) -> dict[str, Tensor]:
        """The last step's weighted terms and their ``total``, detached, on the device.

        ``teacher_real`` and ``teacher_synthetic`` are the teacher's highest class probability on
        real and on synthetic rows, mean over the rows of this process. ``gradient_share``, once
        known, is the norm of D³'s part of the generator's gradient over the norm of the whole, at
        the parameters that D³ reaches: in hook mode of the last step; in loss form of the last
        tenth step (with ``settings.gradient_share`` of the last one), in the host's backward pass,
        before clipping, with all accumulated gradients.
        """
        return self._loss.values

    def loss(
        self,
        features: Rows = None,
        labels: Rows = None,
        attributes: Rows = None,
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
            labels: (B,) or (B, 1) integers, in the form that ``attach(labels_are=...)`` names,
                all of seen classes. Arrays and lists are taken, too.
            attributes: (B, A) instead of labels, for loops that have none: rows of the data's
                attribute matrix, unchanged or divided by their norm.
            update: False leaves the student as it is and draws the classes and noise of the last
                updating call again: for the closure of LBFGS, SAM's second pass, or accumulated
                gradients.

        Returns:
            0-dim tensor: the weight, of the settings or following ``settings.gradient_share``,
            times the sum of the terms; zero at weight 0, with a graph that ends there.

        Raises:
            HostError: the batch does not fit the data, D³ was detached, or it is attached with
                ``mode="hook"`` and adds its gradient itself.
            NotFiniteError: NaN or Inf in 100 consecutive steps. A single such step gives a warning,
                returns zero and gives neither student nor generator a gradient. On a GPU Adam still
                moves the student by its moments.
        """
        if not self._attached:
            raise HostError("this D³ was detached; attach again to use its loss")
        if self._optimizer_hook is not None:
            raise HostError('mode="hook" adds the gradient itself; to add loss() use mode="loss"')
        return self._loss(features, labels, attributes, update=update)

    @checked
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
            NotFiniteError: the last 100 steps or more were all skipped because of NaN or Inf, and
                ``loss()`` has not said so yet (on a GPU it looks every 50 steps).

        Warns:
            D3Warning: D³ has made no step, or synthesis looks wrong, see :meth:`check`.
        """
        with self._scored(generator, final_classifier, ensemble_weight, seen_offset) as scored:
            return scored.evaluation(draws)

    @checked
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
        """
        with self._scored(generator, final_classifier, ensemble_weight, seen_offset) as scored:
            return scored.classifier()

    @contextmanager
    def _scored(
        self,
        generator: nn.Module | None,
        final_classifier: FinalClassifier | None,
        ensemble_weight: float | None,
        seen_offset: float | None,
    ) -> Iterator[Scored]:
        """What is scored, with the weights of ``generator``; warns if D³ has made no step."""
        self._loss.student.look()
        own = self.settings
        settings = replace(
            own,
            final_classifier=own.final_classifier if final_classifier is None else final_classifier,
            ensemble_weight=own.ensemble_weight if ensemble_weight is None else ensemble_weight,
            seen_offset=own.seen_offset if seen_offset is None else seen_offset,
        )
        if settings.weight or settings.final_classifier != "host":
            self._loss.warn_if_never_called()
        trained = self.steps >= _BEGUN
        with plain_pytorch(self.host.generator), weights_from(self.host.generator, generator):
            yield Scored(self.host, self._hooks, self._seed, self.distiller, settings, trained)

    def __repr__(self) -> str:
        return f"D3({self.host.name}, {self.steps} steps, {self.host.data!r}, {self.settings!r})"

    def calibrate(self, *others: D3, draws: Count = 1) -> Chosen:
        """Choose ``ensemble_weight`` and ``seen_offset`` on validation classes.

        For a D³ on a validation problem: its host is trained without the classes it is tested on::

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

    def check(self, *, prove: bool = True) -> Check:
        """What D³ has understood of the host and how it knows, on one screen; changes no result.

        ``prove`` also synthesises seen classes and compares them with the training rows.
        """
        with plain_pytorch(self.host.generator):
            return findings(self._loss, self._seed, prove=prove)

    def detach(self) -> None:
        """Remove D³ from the host, without a trace. ``evaluate`` still works."""
        if self._optimizer_hook is not None:
            self._optimizer_hook.remove()
        if self.host.from_noise.loop is not None:
            self.host.from_noise.loop.remove()
        self._attached = False
        self._loss.student.look()

    def state_dict(self) -> dict[str, Any]:
        """What resumes a run, also of plugins that have ``state_dict`` and ``load_state_dict``."""
        return state_of(self._loss, self._optimizer_hook)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state_dict`.

        Settings that only scoring depends on may differ; they are not taken from the state.

        Raises:
            HostError: the state is damaged, or of other classes, features or settings; nothing is
                changed then.
        """
        continue_from(state, self._loss, self._optimizer_hook, self._seed)

    def __reduce__(self) -> NoReturn:
        """Refuse pickle and copy: the copy would hold a copy of the host that nobody trains."""
        raise HostError("a D3 cannot be copied: save d3.state_dict() for load_state_dict()")
