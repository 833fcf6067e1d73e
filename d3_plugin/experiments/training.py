"""The training of one host with D³, and what comes of it."""

from __future__ import annotations

import copy
import time
import types
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from d3_plugin.attachment.attach import attach
from d3_plugin.attachment.d3 import D3
from d3_plugin.data import GZSLData, load, pseudo_unseen, without_test_rows
from d3_plugin.data.digits import DRAWS, load_digits_gzsl
from d3_plugin.errors import D3Warning, PluginError
from d3_plugin.evaluation.calibration import rescored
from d3_plugin.evaluation.protocol import evaluate
from d3_plugin.evaluation.result import Evaluation
from d3_plugin.experiments.checkpoint import Checkpoint
from d3_plugin.experiments.recording import TermRecorder, project
from d3_plugin.experiments.run_identity import Run
from d3_plugin.experiments.training_function import LoopTrainer
from d3_plugin.hooks.describe import describe_trainer
from d3_plugin.hooks.manager import make_manager
from d3_plugin.hooks.specs import hookimpl
from d3_plugin.hosts.host import HostFamily
from d3_plugin.report.rows import Record

OnStep = Callable[[int], None]

_OF_EVALUATION = ("d3_synthesize_features", "d3_transform_features", "d3_train_classifier")
"""Hooks that make the final classifiers of a plugin's row differ from the baseline's."""


@dataclass(frozen=True, eq=False)
class Outcome(Record):
    """Result of a run.

    Attributes:
        run: what was run.
        evaluation: scores and metrics on the run's split.
    """

    run: Run
    evaluation: Evaluation


def load_problem(run: Run) -> GZSLData:
    """The scaled data of a run; ``digits`` has another draw and split for each seed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", D3Warning)  # the command has given them
        if run.data == "digits":
            data = load_digits_gzsl(run.seed % len(DRAWS), split=run.seed)
        else:
            data = load(run.data, attributes=run.attributes, validation=run.validation)
        if run.split == "validation" and not run.validation:
            # Without test rows first: then nothing below can choose on them.
            data = pseudo_unseen(without_test_rows(data), seed=run.seed)
    return data.scaled()


@dataclass
class _Carried:
    """A run that a training carries, with its D³ and the record of its terms."""

    run: Run
    recorder: TermRecorder
    d3: D3 | None = None


class Training:
    """One host in training, with the students of all runs that it carries.

    Args:
        runs: they differ in variant, D³ and plugin only.
        family: of the host.

    Raises:
        D3Error: the host cannot be built, or is not one that a plugin knows.
    """

    def __init__(self, runs: Sequence[Run], family: HostFamily) -> None:
        self.started = time.perf_counter()
        self.run = runs[0]
        self.data = load_problem(self.run)
        self.trainer = _built(family, self.run, self.data)
        self.plugins = [] if self.run.family is None else [family.hooks]
        self.carried = [_Carried(run, TermRecorder(self.trainer)) for run in runs]
        self.d3s: list[D3] = []
        if isinstance(self.trainer, LoopTrainer):
            self.trainer.when_attached = self._attach  # its generator is made in fit()
        else:
            # A trainer that no plugin knows is an error now, not after the training.
            describe_trainer(make_manager(self.plugins), self.trainer)
            self._attach()

    def _attach(self) -> None:
        """Attach each run's D³ to the generator, which has not been trained yet.

        The first D³ is called by the generator's optimiser, and the others after it.
        """
        self.generator_start = _mean_parameter(self.trainer.generator)
        for each in self.carried:
            run = each.run
            if run.d3 is None:
                continue
            plugins = [*self.plugins, each.recorder, *_added(run)]
            if isinstance(self.trainer, LoopTrainer):  # it carries a single run
                each.d3 = self.trainer.attach_d3(run.d3, run.seed, plugins)
            elif not self.d3s:
                plugins.append(_Followers(self.d3s))
                each.d3 = attach(self.trainer, settings=run.d3, seed=run.seed, plugins=plugins)
            else:
                each.d3 = attach(
                    self.trainer, settings=run.d3, seed=run.seed, mode="loss", plugins=plugins
                )
            self.d3s.append(each.d3)
        if isinstance(self.trainer, LoopTrainer):
            self.plugins += self.trainer.plugins

    def fit(
        self, checkpoint: Path | None = None, on_step: OnStep | None = None, every: float = 60.0
    ) -> None:
        """Train; as in :func:`~d3_plugin.experiments.run.execute`."""
        if checkpoint is None or not hasattr(self.trainer, "load_state_dict"):
            self.trainer.fit()
            return
        saved = Checkpoint(
            checkpoint,
            self.trainer,
            self.d3s,
            torch.device(self.run.device),
            [each.recorder.history for each in self.carried],
        )
        start = saved.load()
        last, cost = time.monotonic(), 0.0  # of the checkpoint before, in seconds

        def step_done(step: int, losses: dict[str, float]) -> None:
            nonlocal last, cost
            for each in self.carried:
                each.recorder.close()
            if on_step is not None:
                on_step(step)
            begun = time.monotonic()
            if begun - last >= min(every, 100 * cost):
                saved.save(step)
                last = time.monotonic()
                cost = last - begun

        self.trainer.fit(step_done, start=start)

    def outcomes(self) -> list[Outcome]:
        """Of every run, in their order, once the training is finished."""
        for each in self.carried:
            each.recorder.close()
        evaluations = self._evaluations()
        on_test = self.run.split == "test"
        projection = project(self.trainer, self.run.seed, self.plugins) if on_test else None
        generator_mean = _mean_parameter(self.trainer.generator)
        seconds = time.perf_counter() - self.started
        return [
            Outcome(
                run=each.run,
                evaluation=evaluation,
                data_name=self.data.name,
                class_names=list(self.data.class_names),
                history=[entry for entry in self.trainer.history if len(entry) > 1],
                d3_history=each.recorder.history,
                generator_start=self.generator_start,
                generator_mean=generator_mean,
                projection=projection,
                seconds=seconds,
                finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            )
            for each, evaluation in zip(self.carried, evaluations, strict=True)
        ]

    def _evaluations(self) -> list[Evaluation]:
        """Of every run; the host's final classifiers are trained once for all that use them."""
        baseline: Evaluation | None = None
        evaluations = []
        for each in self.carried:
            run, d3 = each.run, each.d3
            if d3 is None:
                baseline = evaluate(
                    self.trainer, seed=run.seed, draws=run.draws, plugins=self.plugins
                )
                evaluations.append(baseline)
            elif baseline is not None and _has_classifiers_of_baseline(run, d3):
                evaluations.append(_with_student(baseline, d3))
            else:
                evaluations.append(d3.evaluate(draws=run.draws))
        return evaluations


def _built(family: HostFamily, run: Run, data: GZSLData) -> Any:
    """The trainer of a run."""
    try:
        settings = family.settings(**run.host)
        trainer = family.build(data, settings, run.seed, torch.device(run.device))
    except SystemExit as error:  # would end the worker, and with it the other runs
        where = f"{family.name!r} ({family.build.__module__})"
        raise PluginError(f"build of host family {where} exits: {error}") from error
    if not isinstance(getattr(trainer, "history", None), list):
        raise PluginError(
            f"a trainer of {family.name!r} needs history, a list to which fit() appends dicts "
            'such as {"step": 10, "loss": 0.5}'
        )
    return trainer


def _added(run: Run) -> list[Any]:
    """The plugin of a run, if it has one; what it keeps from step to step goes to no other run."""
    if run.plugin is None:
        return []
    is_module = isinstance(run.plugin, types.ModuleType)
    return [run.plugin if is_module else copy.deepcopy(run.plugin)]


class _Followers:
    """A plugin of the first D³ of a training, after whose steps the others make theirs.

    Args:
        d3s: of the training, the first one included; they may be added later.
    """

    def __init__(self, d3s: Sequence[D3]) -> None:
        self._d3s = d3s

    @hookimpl
    def d3_after_step(self) -> None:
        for d3 in self._d3s[1:]:
            d3.loss()


def _has_classifiers_of_baseline(run: Run, d3: D3) -> bool:
    """Whether what ``d3.evaluate()`` trains is the baseline's final classifiers once more."""
    of_its_own = any(hasattr(run.plugin, hook) for hook in _OF_EVALUATION)
    return d3.settings.final_classifier == "both" and not of_its_own


def _with_student(baseline: Evaluation, d3: D3) -> Evaluation:
    """What ``d3.evaluate()`` gives: its final classifiers are the baseline's, already trained."""
    weight, offset = d3.settings.ensemble_weight, d3.settings.seen_offset
    student = d3.evaluate(final_classifier="student")
    both = replace(
        student,
        host_scores=baseline.host_scores,
        prior=baseline.prior,
        classifier=f"{baseline.classifier} + {weight:g} x {student.classifier}",
    )
    return rescored(both, ensemble_weight=weight, seen_offset=offset)


def _mean_parameter(module: nn.Module) -> float:
    parameters = torch.cat([p.detach().abs().flatten() for p in module.parameters()])
    return parameters.cpu().double().mean().item()
