"""D³'s part of the generator's loss; computing it trains the student."""

from __future__ import annotations

import itertools
import time
from collections import deque
from dataclasses import asdict
from statistics import median

import pluggy
import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack

from d3_plugin.attachment.gradient import MEASURE_EVERY, GradientToGenerator
from d3_plugin.distillation.distiller import Distiller
from d3_plugin.distillation.settings import CHANGEABLE, D3Settings
from d3_plugin.distillation.student_trainer import LOOK_EVERY, StudentTrainer
from d3_plugin.errors import HostError, InputError, warn
from d3_plugin.evaluation.seen_class_check import compare_seen_classes
from d3_plugin.hooks.calls import after_step, extra_terms
from d3_plugin.hosts.batch_values import Rows
from d3_plugin.hosts.host import Host, StepBatch
from d3_plugin.hosts.isolation import RandomStream, plain_pytorch
from d3_plugin.hosts.labels import HostBatches, LabelForm
from d3_plugin.hosts.module_state import keeping_hooks
from d3_plugin.hosts.synthesis import synthesize

_SHOWN_AFTER = 500
"""Steps after which synthetic rows show a wrong call; see ``evaluation/seen_class_check.py``."""


class Clock:
    """Seconds of D³ and of the whole in the last steps; on a GPU of launching kernels only."""

    def __init__(self) -> None:
        self._ends = deque[tuple[float, float]](maxlen=20)  # of a step, and its own seconds

    def add(self, start: float) -> None:
        end = time.perf_counter()
        self._ends.append((end, end - start))

    @property
    def seconds(self) -> tuple[float, float] | None:
        """Medians of D³ in a step, and of the whole step; None before the fifth step."""
        if len(self._ends) < 5:
            return None
        ends, own = zip(*self._ends, strict=True)
        return median(own), median(b - a for a, b in itertools.pairwise(ends))


class GeneratorLoss:
    """The extra loss of the generator, see :meth:`d3_plugin.D3.loss`.

    Args:
        host: with the generator.
        hooks: ``manager.hook``.
        distiller: teacher, student and losses.
        settings: to start with.
        stream: where D³'s random numbers come from.
        labels_are: form of the labels in the host's batch.
        hooked: whether the optimiser's hook measures D³'s share of the gradient; otherwise it is
            measured in the host's backward pass.

    Attributes:
        host, hooks, distiller, hooked: as given.
        settings, stream: those in use.
        batches: reads the host's rows and labels.
        student: the trainer of the student.
        to_generator: how D³'s gradient comes to the generator.
        clock: of the last steps.
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
        self.host, self.hooks, self.distiller, self.settings = host, hooks, distiller, settings
        self.stream, self.hooked = stream, hooked
        self.batches = HostBatches(host.data, distiller.teacher, labels_are)
        self.student = StudentTrainer(distiller, host.generator, settings.student_lr)
        self.to_generator = GradientToGenerator(host.generator, settings.weight)
        self._script_hooks = set[str]()
        self.clock = Clock()
        self._terms: dict[str, Tensor] = {}
        self._teacher_logits: dict[str, Tensor] = {}  # of real and of synthetic rows
        self._warned_unreachable = False

    def __call__(
        self,
        features: Rows = None,
        labels: Rows = None,
        attributes: Rows = None,
        *,
        update: bool = True,
    ) -> Tensor:
        """The extra loss, 0-dim; arguments as for ``loss()``."""
        if torch.is_inference_mode_enabled():
            raise HostError("call loss() in the training loop, not under torch.inference_mode()")
        if peek_interpreter_stack() is not None:  # nothing public tells
            raise HostError(
                "loss() cannot run inside torch.func: use backward() or torch.autograd.grad"
            )
        start = time.perf_counter()
        settings, to_generator = self.settings, self.to_generator
        reached = settings.weight > 0 and self._generator_is_reached()
        if update or not settings.gradient_share:  # a closure's further passes keep the weight
            to_generator.follow(settings, gather=self.distiller.gather)
        with self.stream.drawing(again=not update), torch.enable_grad():
            real, real_labels = self._real_rows(features, labels, attributes)
            classes = self._unseen_classes()
            synthetic = synthesize(self.host, self.hooks, classes, differentiable=reached)
            # float32: the gradient of a half-precision leaf would underflow before it is scaled.
            rows = synthetic.detach().float().requires_grad_(reached)
            batch = self.distiller.batch(rows, real, torch.cat([classes, real_labels]))
            total = self._total(batch)
            parts = {"synthetic rows": rows, "real rows": real, **self._terms}
            gradient, finite = self.student.train(
                total, rows if reached else None, parts, step=update
            )
        of_teacher, n = batch.teacher_logits.detach(), batch.num_synthetic
        if update and features is not None:
            self.batches.note(real, real_labels, of_teacher[n:])
        self._teacher_logits = {"synthetic": of_teacher[:n], "real": of_teacher[n:]}
        if update:
            self._after_step()
            self.clock.add(start)
        if not settings.weight:  # with a graph, for loops that call backward() on it alone
            return torch.zeros_like(total, requires_grad=torch.is_grad_enabled())
        value = to_generator.weight * total.detach().masked_fill(~finite, 0.0)
        if gradient is None:
            return value
        due = bool(settings.gradient_share) or self.student.steps % MEASURE_EVERY == 1
        measured = update and due and not self.hooked
        return to_generator.pass_on(synthetic, value, gradient, measured=measured)

    def change(self, settings: D3Settings) -> None:
        """Continue with these settings, see :attr:`d3_plugin.D3.settings`."""
        if not isinstance(settings, D3Settings):
            raise InputError(f"d3.settings must be D3Settings, got {settings!r}")
        before, after = asdict(self.settings), asdict(settings)
        fixed = [n for n in before if before[n] != after[n] and n not in CHANGEABLE]
        if fixed:
            raise InputError(
                f"{', '.join(fixed)} cannot change once D³ is attached: attach again with "
                f"settings=. d3.settings takes other values of {', '.join(CHANGEABLE)}"
            )
        self.settings = settings

    @property
    def values(self) -> dict[str, Tensor]:
        """See :attr:`d3_plugin.D3.values`."""
        values = {name: term.clone() for name, term in self._terms.items()}
        for name, logits in self._teacher_logits.items():
            values[f"teacher_{name}"] = logits.softmax(dim=1).amax(dim=1).mean()
        if self.to_generator.shares:
            values["gradient_share"] = self.to_generator.shares[-1].clone()
        return values

    def warn_if_never_called(self) -> None:
        """Warn, in an evaluation, if D³ has made no step: nothing can have been learnt."""
        if self.student.steps == 0:
            why = "d3.loss() was never called"
            if self.hooked:
                why = "the optimizer given to attach was never stepped; was it created again later?"
            warn(f"D³ has made no step, so neither generator nor student learnt from it: {why}")

    def _generator_is_reached(self) -> bool:
        parameters = self.host.generator.parameters()
        reached = torch.is_grad_enabled() and any(p.requires_grad for p in parameters)
        if not reached and not self._warned_unreachable:
            self._warned_unreachable = True
            warn(
                "loss() was called where no gradient can reach the generator (under no_grad, or "
                "with requires_grad off in all its parameters); the student learns, the generator "
                "does not. Call it in the generator's step."
            )
        return reached

    def _real_rows(self, features: Rows, labels: Rows, attributes: Rows) -> tuple[Tensor, Tensor]:
        """Those of the host's batch, or drawn from the training rows; and their class ids."""
        if features is not None or labels is not None or attributes is not None:
            return self.batches.read(features, labels, attributes)
        rows, ids = self.host.data.train_features, self.host.data.train_labels
        drawn = torch.randint(len(ids), (self.settings.real_rows,), device=ids.device)
        return rows[drawn], ids[drawn]

    def _unseen_classes(self) -> Tensor:
        unseen = self.host.data.unseen_classes
        number = self.settings.synthetic_rows
        return unseen[torch.randint(len(unseen), (number,), device=unseen.device)]

    def _total(self, batch: StepBatch) -> Tensor:
        terms = self.distiller.terms(batch)
        if self.hooks.d3_extra_terms.get_hookimpls():
            terms |= extra_terms(self.hooks, self.host, batch, terms)
        # By name: hooks answer in reverse order of registration, and float sums depend on order.
        total = sum([terms[name] for name in sorted(terms)], start=batch.features.new_zeros(()))
        self._terms = {name: term.detach() for name, term in terms.items()}
        self._terms["total"] = total.detach()
        return total

    def _after_step(self) -> None:
        steps = self.student.steps
        if self.hooks.d3_after_step.get_hookimpls():
            after_step(self.hooks, self.host, steps, self.values)
        if not self.settings.weight and steps % LOOK_EVERY == 1:
            self._warn_of_script_hooks()
        if steps % LOOK_EVERY == 0:
            self._look()
        if steps == _SHOWN_AFTER:
            self._prove()

    def _look(self) -> None:
        """Make the checks that a GPU waits for: of batches, D³'s share, and where it arrives."""
        self.batches.look()
        self.to_generator.look(
            self.settings, LOOK_EVERY, hooked=self.hooked, reachable=not self._warned_unreachable
        )

    def _prove(self) -> None:
        """Warns of a wrong call or scale of the data while the training can still be stopped."""
        with plain_pytorch(self.host.generator):
            proof = compare_seen_classes(self.host, self.hooks, _SHOWN_AFTER)
        for sentence in proof.warnings_of_the_call:
            warn(sentence)

    def _warn_of_script_hooks(self) -> None:
        found = keeping_hooks(self.host.modules) - self._script_hooks
        self._script_hooks |= found
        if found:
            warn(
                f"D³'s calls of the generator run hooks of the script, too: {', '.join(found)}. "
                "What such a hook keeps is then of D³'s rows, and training may differ from one "
                "without D³ even at weight 0: read it before d3.loss()"
            )
