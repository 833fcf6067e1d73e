"""Scores a host, with or without D³, on the test rows; makes its final classifier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pluggy
import torch
from torch import Tensor

from d3_plugin.checks import Count, takes
from d3_plugin.distillation.distiller import Distiller
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.errors import HostError, warn
from d3_plugin.evaluation.captured import EXAMPLES, capture
from d3_plugin.evaluation.classifier import Classifier, TrainingRows
from d3_plugin.evaluation.doubts import ADVICE, doubts_of_chance, doubts_of_classifier
from d3_plugin.evaluation.final_classifier import FinalClassifier, HostScorer
from d3_plugin.evaluation.metrics import ood_auroc
from d3_plugin.evaluation.result import Evaluation, mean_metrics
from d3_plugin.evaluation.seen_class_check import compare_seen_classes
from d3_plugin.functional import id_score
from d3_plugin.hooks.describe import host_of
from d3_plugin.hosts.host import Host
from d3_plugin.hosts.host_parts import HostParts
from d3_plugin.hosts.isolation import RandomStream, plain_pytorch
from d3_plugin.hosts.module_state import ModuleState, eval_mode, modules_noticed
from d3_plugin.hosts.synthesis import synthesize as synthesize_rows

_HOST_ALONE = D3Settings(final_classifier="host")


@dataclass(kw_only=True)
class EvaluateArguments(HostParts):
    """The arguments of :func:`evaluate`."""

    function: ClassVar[str] = "evaluate"

    draws: Count = 1


@takes(EvaluateArguments)
def evaluate(given: EvaluateArguments) -> Evaluation:
    """U, S, H, AUSUC of a trained baseline, by the protocol of :meth:`d3_plugin.D3.evaluate`.

    The numbers are those of a D³ attached with weight 0, ``evaluate(final_classifier="host")``.

    Args:
        trainer: a trainer object that an installed plugin, or one of ``plugins``, knows.
        generator, data: of a script, instead of a trainer.
        seed: of the noise and of the final classifier.
        draws: how many draws of synthetic features to average over; each trains a classifier.
        noise_dim, noise, synthesize, modules, transform_features, train_classifier,
            synthetic_per_class: see :func:`d3_plugin.attach`; labels are class ids, or as in a
            script's data object.
        plugins: further plugins.

    Raises:
        InputError: ``draws`` is below 1.
        HostError: no plugin knows the trainer, or parts of a script are missing.
    """
    return _scored(given).evaluation(given.draws)


@dataclass(kw_only=True)
class ClassifierArguments(HostParts):
    """The arguments of :func:`classifier`."""

    function: ClassVar[str] = "classifier"


@takes(ClassifierArguments)
def classifier(given: ClassifierArguments) -> Classifier:
    """The final classifier of a trained baseline, the one that :func:`evaluate` scores.

    Args:
        trainer: and all others: see :func:`evaluate`. It is the first of its draws.

    Raises:
        InputError, HostError: as :func:`evaluate`.
    """
    return _scored(given).classifier()


def _scored(parts: HostParts) -> Scored:
    """The host alone; further networks that a script's synthesis calls are scored in eval mode."""
    host, hooks = host_of(parts, parts.trainer, parts.plugins)
    if parts.trainer is None:
        classes = host.data.unseen_classes[:1].repeat(2)
        with (
            plain_pytorch(host.generator),
            modules_noticed(host.modules) as found,
            RandomStream(0, host.device, "trial"),
        ):
            synthesize_rows(host, hooks, classes, differentiable=False)
        host.modules += tuple(found)
    return Scored(host, hooks, parts.seed)


@dataclass(frozen=True, eq=False)
class Scored:
    """A host whose test rows are scored by its own final classifier, D³'s student, or both.

    The host is in eval mode meanwhile; global random streams stay where they are. The same seed
    gives the same noise with and without D³; autocast or a default dtype changes no number.

    Attributes:
        host: its generator is used as it stands.
        hooks: ``manager.hook``.
        seed: of the noise and of the final classifier.
        distiller: teacher and student; needed unless ``final_classifier`` is ``host``.
        settings: which classifier is scored, and how it is combined.
        trained: False where the generator has hardly begun, so that nothing shows in its rows.
    """

    host: Host
    hooks: pluggy.HookRelay
    seed: int
    distiller: Distiller | None = None
    settings: D3Settings = _HOST_ALONE
    trained: bool = True

    def evaluation(self, draws: int) -> Evaluation:
        """Metrics as means over the draws: each synthesises rows and trains a final classifier.

        Raises:
            HostError: a function of the host or the user returns something else than it should.

        Warns:
            D3Warning: see :mod:`d3_plugin.evaluation.doubts`.
        """
        data = self.host.data
        classes = data.seen_classes.cpu().numpy(), data.unseen_classes.cpu().numpy()
        if self.settings.final_classifier == "student":
            draws = 1  # it needs no synthetic rows
        scores, host_scores = list[Tensor](), list[Tensor]()
        with self._in_eval_mode():
            rows = torch.cat([data.test_seen_features, data.test_unseen_features])
            labels = torch.cat([data.test_seen_labels, data.test_unseen_labels]).cpu().numpy()
            while True:
                final = self._train_final()
                of_host, of_student = final.checked_parts(rows)
                scores.append(final.combined(of_host, of_student))
                host_scores += [] if of_host is None else [of_host]
                if len(scores) == draws:
                    break
            known = None if self.distiller is None else _in_distribution(self.distiller, rows)
            seen = len(data.test_seen_labels)
            advised = final.host is not None and final.host.source == "default"
            evaluation = Evaluation(
                mean_metrics(_array(scores), labels, *classes),
                _array(scores),
                labels,
                *classes,
                host_scores=_array(host_scores) if host_scores else None,
                prior=None if final.host is None else final.host.prior,
                teacher_score=known,
                teacher_auroc=None if known is None else ood_auroc(known[:seen], known[seen:]),
                student_scores=None if of_student is None else _array([of_student])[0],
                classifier=final.name + ADVICE * advised,
            )
            doubts = doubts_of_classifier(final.host, evaluation)
            if self.trained:
                doubts += doubts_of_chance(evaluation) + self._doubts_of_rows()
        for sentence in doubts:
            warn(sentence)
        return evaluation

    def classifier(self) -> Classifier:
        """The first draw's final classifier, the one that :meth:`evaluation` scores.

        It is captured as PyTorch operations, so that it stays what it is when the host trains on.
        One that cannot be captured runs in the host's modules, in eval mode.

        Raises:
            HostError: as :meth:`evaluation`.
        """
        data, modules = self.host.data, self.host.modules
        with self._in_eval_mode():
            final = self._train_final()

            def in_the_host(rows: Tensor) -> Tensor:
                with eval_mode(modules), ModuleState(modules):
                    return final(rows)

            function, obstacle = in_the_host, ""
            rows = data.train_features[torch.arange(EXAMPLES) % len(data.train_features)]
            try:
                with ModuleState(modules):
                    function = capture(final, rows)
            except HostError as error:
                obstacle = str(error)
            doubts = doubts_of_classifier(final.host)
            if self.trained:
                doubts += self._doubts_of_rows()
            trained_on = TrainingRows.of(data.train_features, data.scaling)
        for sentence in doubts:
            warn(sentence)
        return Classifier(
            function,
            device=self.host.device,
            name=final.name,
            class_names=data.class_names,
            trained_on=trained_on,
            scaling=data.scaling,
            obstacle=obstacle,
        )

    @contextmanager
    def _in_eval_mode(self) -> Iterator[None]:
        """The host as its loop was last seen to call it; D³'s random stream for evaluations."""
        host = self.host
        host.from_noise.form(now=True)
        with (
            plain_pytorch(host.generator),
            RandomStream(self.seed, host.device, "evaluation"),
            eval_mode(host.modules),
            torch.no_grad(),
        ):
            yield

    def _train_final(self) -> FinalClassifier:
        """Synthesise rows and train the host's classifier, unless the student needs none."""
        kind = self.settings.final_classifier
        scorer = None if kind == "student" else HostScorer(self.host, self.hooks)
        student = None if kind == "host" else self.distiller
        return FinalClassifier(scorer, student, self.host.data.seen_classes, self.settings)

    def _doubts_of_rows(self) -> list[str]:
        return compare_seen_classes(self.host, self.hooks, self.seed).warnings


def _in_distribution(distiller: Distiller, rows: Tensor) -> npt.NDArray[np.float64]:
    """(N,) score of the teacher, higher for rows that are more like seen data."""
    o2dbd = distiller.o2dbd
    score = id_score(distiller.teacher(rows)[0], o2dbd.score, o2dbd.score_temperature)
    known: npt.NDArray[np.float64] = score.cpu().double().numpy()
    return known


def _array(scores: Sequence[Tensor]) -> npt.NDArray[np.float32]:
    return torch.stack(list(scores)).float().cpu().numpy()
