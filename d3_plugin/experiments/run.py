"""Trains and scores runs of a comparison."""

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
from d3_plugin.experiments.families import find_family
from d3_plugin.experiments.recording import TermRecorder, project
from d3_plugin.experiments.run_identity import Run, checkpoint_name
from d3_plugin.experiments.sharing import why_apart
from d3_plugin.experiments.training_function import LoopTrainer
from d3_plugin.hooks.describe import describe_trainer
from d3_plugin.hooks.manager import make_manager
from d3_plugin.hooks.specs import hookimpl
from d3_plugin.hosts.host_parts import Mode
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


def execute(
    runs: Sequence[Run],
    checkpoint: Path | None = None,
    on_step: OnStep | None = None,
    *,
    every: float = 60.0,
) -> list[Outcome]:
    """Train one host, and score every run that its training carries.

    If the runs may not share a training, each gets one of its own; see
    :func:`~d3_plugin.experiments.sharing.why_apart`.

    Args:
        runs: those of one training, see :func:`~d3_plugin.experiments.plan.trainings`.
        checkpoint: where to save the training while it runs, if its trainer can be continued; a
            training found there is continued. The caller removes the file.
        on_step: called with every finished step that such a trainer reports.
        every: seconds between checkpoints, at most; fewer where a hundredth of the time is enough
            to write more of them, so that short trainings have some, too.

    Raises:
        D3Error: it fails; a damaged checkpoint, for example.

    Warns:
        D3Warning: the runs cannot share a training; says why.
    """
    if reason := why_apart(runs):
        warnings.warn(
            f"{runs[0].adapter}: the baseline is trained apart from D³, as every row is: {reason}",
            D3Warning,
            stacklevel=2,
        )
        outcomes = []
        for run in runs:
            own = checkpoint and checkpoint.with_name(checkpoint_name([run]))
            outcomes += execute([run], own, on_step, every=every)
        return outcomes
    training = Training(runs)
    if checkpoint is None or not hasattr(training.trainer, "load_state_dict"):
        training.trainer.fit()
    else:
        training.fit(checkpoint, on_step, every)
    return training.outcomes()


class Training:
    """One host in training, with the students of all runs that it carries.

    The first D³ is called by the generator's optimiser, and the others after it.

    Args:
        runs: they differ in variant and D³ only.

    Raises:
        D3Error: the host cannot be built, or is not one that a plugin knows.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.started = time.perf_counter()
        self.runs, self.run = runs, runs[0]
        self.device = torch.device(self.run.device)
        self.data = load_problem(self.run)
        family = self.run.family or find_family(self.run.adapter)
        self.plugins = [] if self.run.family is None else [family.hooks]
        try:
            settings = family.settings(**self.run.host)
            self.trainer = family.build(self.data, settings, self.run.seed, self.device)
        except SystemExit as error:  # would end the worker, and with it the other runs
            where = f"{family.name!r} ({family.build.__module__})"
            raise PluginError(f"build of host family {where} exits: {error}") from error
        if not isinstance(getattr(self.trainer, "history", None), list):
            raise PluginError(
                f"a trainer of {family.name!r} needs history, a list to which fit() appends dicts "
                'such as {"step": 10, "loss": 0.5}'
            )
        self.recorders = [TermRecorder(self.trainer) for _ in runs]
        if isinstance(self.trainer, LoopTrainer):
            self.trainer.when_attached = self._begin  # makes its generator in fit()
        else:
            # A trainer that no plugin knows is an error now, not after the training.
            describe_trainer(make_manager(self.plugins), self.trainer)
            self._begin()

    def _begin(self) -> None:
        """Attach D³ to the generator, which has not been trained yet."""
        self.generator_start = _mean_parameter(self.trainer.generator)
        self.attached = self._attach()
        if isinstance(self.trainer, LoopTrainer):
            self.plugins += self.trainer.plugins

    def _attach(self) -> list[D3 | None]:
        """The D³ of each run; None for the host without it."""
        if isinstance(self.trainer, LoopTrainer):
            if self.run.d3 is None:
                return [None]
            plugins = [*self.plugins, *self.recorders, *_added(self.run)]
            return [self.trainer.attach_d3(self.run.d3, self.run.seed, plugins)]
        attached: list[D3 | None] = []
        followers = _Followers()
        for run, recorder in zip(self.runs, self.recorders, strict=True):
            if run.d3 is None:
                attached.append(None)
                continue
            leads = not any(attached)
            plugins = [*self.plugins, recorder, *([followers] if leads else [])]
            plugins += _added(run)
            mode: Mode = "hook" if leads else "loss"
            d3 = attach(self.trainer, settings=run.d3, seed=run.seed, mode=mode, plugins=plugins)
            followers.d3s += [] if leads else [d3]
            attached.append(d3)
        return attached

    def fit(self, path: Path, on_step: OnStep | None, every: float) -> None:
        """Train, from the checkpoint if there is one, and save further ones."""
        checkpoint = Checkpoint(
            path,
            self.trainer,
            [d3 for d3 in self.attached if d3 is not None],
            self.device,
            [recorder.history for recorder in self.recorders],
        )
        start, saved, cost = checkpoint.load(), time.monotonic(), 0.0

        def step_done(step: int, losses: dict[str, float]) -> None:
            nonlocal saved, cost
            for recorder in self.recorders:
                recorder.close()
            if on_step is not None:
                on_step(step)
            begun = time.monotonic()
            if begun - saved >= min(every, 100 * cost):
                checkpoint.save(step)
                saved = time.monotonic()
                cost = saved - begun

        self.trainer.fit(step_done, start=start)

    def outcomes(self) -> list[Outcome]:
        """Of every run, in their order, once the training is finished."""
        for recorder in self.recorders:
            recorder.close()
        evaluations = self._evaluations()
        on_test = self.run.split == "test"
        projection = project(self.trainer, self.run.seed, self.plugins) if on_test else None
        generator_mean = _mean_parameter(self.trainer.generator)
        seconds = time.perf_counter() - self.started
        return [
            Outcome(
                run=run,
                evaluation=evaluation,
                data_name=self.data.name,
                class_names=list(self.data.class_names),
                history=[entry for entry in self.trainer.history if len(entry) > 1],
                d3_history=recorder.history,
                generator_start=self.generator_start,
                generator_mean=generator_mean,
                projection=projection,
                seconds=seconds,
                finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            )
            for run, evaluation, recorder in zip(
                self.runs, evaluations, self.recorders, strict=True
            )
        ]

    def _evaluations(self) -> list[Evaluation]:
        """Of every run; the host's final classifiers are trained once for all that use them."""
        baseline: Evaluation | None = None
        evaluations = []
        for run, d3 in zip(self.runs, self.attached, strict=True):
            if d3 is None:
                baseline = evaluate(
                    self.trainer, seed=run.seed, draws=run.draws, plugins=self.plugins
                )
                evaluations.append(baseline)
            elif (
                baseline is None
                or d3.settings.final_classifier != "both"
                or any(hasattr(run.plugin, hook) for hook in _OF_EVALUATION)
            ):
                evaluations.append(d3.evaluate(draws=run.draws))
            else:
                evaluations.append(_with_student(baseline, d3))
        return evaluations


def _added(run: Run) -> list[Any]:
    """The plugin of a run, if it has one; what it keeps from step to step goes to no other run."""
    if run.plugin is None:
        return []
    is_module = isinstance(run.plugin, types.ModuleType)
    return [run.plugin if is_module else copy.deepcopy(run.plugin)]


class _Followers:
    """A plugin of the first D³ of a training, after whose steps the others make theirs."""

    def __init__(self) -> None:
        self.d3s: list[D3] = []

    @hookimpl
    def d3_after_step(self) -> None:
        for d3 in self.d3s:
            d3.loss()


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
