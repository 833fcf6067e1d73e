"""Trains and scores runs of a comparison."""

from __future__ import annotations

import importlib
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from d3_plugin.attachment.attach import attach
from d3_plugin.attachment.d3 import D3
from d3_plugin.checks import did_you_mean, setting_problems
from d3_plugin.data import GZSLData, load, pseudo_unseen, without_test_rows
from d3_plugin.data.digits import DRAWS, load_digits_gzsl
from d3_plugin.errors import D3Warning, InputError, PluginError
from d3_plugin.evaluation.calibration import rescored
from d3_plugin.evaluation.protocol import evaluate
from d3_plugin.evaluation.result import Evaluation
from d3_plugin.experiments.checkpoint import Checkpoint
from d3_plugin.experiments.plan import Run
from d3_plugin.experiments.recording import TermRecorder, project
from d3_plugin.hooks.describe import describe_trainer
from d3_plugin.hooks.manager import host_families, make_manager
from d3_plugin.hooks.specs import hookimpl
from d3_plugin.hosts.host import HostFamily


@dataclass(frozen=True, eq=False)
class Outcome:
    """Result of a run.

    Attributes:
        run: what was run.
        evaluation: scores and metrics on the run's split.
        data_name: name of the GZSL problem.
        history: the trainer's: dicts of ``step`` and mean losses.
        generator_start, generator_mean: mean absolute parameter of the generator before and after
            training: equal for a pair at the start, and with weight 0 at the end.
        seconds: of the training, which may carry other runs as well, and of scoring all of them,
            since it was last started.
        d3_history: dicts of ``step`` and the mean :attr:`d3_plugin.D3.values` since the entry
            before; empty without D³.
        class_names: C names.
        projection: of a test run, see :func:`~d3_plugin.experiments.recording.project`.
        finished: date and time in UTC, ISO 8601.

    The last four are empty in files of earlier versions.
    """

    run: Run
    evaluation: Evaluation
    data_name: str
    history: list[dict[str, float]]
    generator_start: float
    generator_mean: float
    seconds: float
    d3_history: list[dict[str, float]] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)
    projection: dict[str, Any] | None = None
    finished: str = ""


def find_family(given: str | HostFamily) -> HostFamily:
    """A host family by its name, by its import path, or as it is.

    Args:
        given: the name under which a plugin provides it; ``package.module:attribute``, also of a
            module in the current folder; or the family itself.

    Returns:
        The family; with ``hooks`` if no installed plugin provides it.

    Raises:
        InputError: there is none; says which are known. Or an installed one has its name.
        PluginError: its module is not a valid plugin.
    """
    installed = host_families(make_manager())
    if isinstance(given, str) and ":" not in given:
        if given not in installed:
            hint = did_you_mean(given, list(installed))
            raise InputError(f"no adapter named {given!r}{hint}; or give MODULE:ATTRIBUTE")
        return installed[given]
    family = _imported(given) if isinstance(given, str) else given
    if installed.get(family.name) == family:
        return installed[family.name]
    if family.name in installed:
        raise InputError(f"an installed adapter is named {family.name!r} too; choose another name")
    hooks = family.hooks or sys.modules.get(getattr(family.build, "__module__", ""), family)
    make_manager([hooks])  # a mistake in the hooks shows now
    return replace(family, hooks=hooks)


def _imported(path: str) -> HostFamily:
    name, _, attribute = path.partition(":")
    try:
        if (here := os.getcwd()) not in sys.path:  # as uvicorn and celery do
            sys.path.insert(0, here)
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a third party's code
        why = f"{type(error).__name__}: {error}"
        raise InputError(f"adapter {path!r}: {name!r} cannot be imported ({why})") from error
    found = getattr(module, attribute, None)
    if not isinstance(found, HostFamily):
        what = f"has no {attribute!r}"
        if hasattr(module, attribute):
            what = f"has a {type(found).__name__} named {attribute!r}, not a HostFamily"
        there = [name for name, value in vars(module).items() if isinstance(value, HostFamily)]
        hint = did_you_mean(attribute, there) if there else "; it needs a HostFamily"
        raise InputError(f"adapter {path!r}: {name} {what}{hint}")
    return replace(found, hooks=found.hooks or module)


def host_settings(family: HostFamily, changes: dict[str, Any]) -> Any:
    """The family's settings with ``changes``.

    Raises:
        InputError: lists settings that do not exist and values that do not fit.
    """
    subject = f"settings of {family.name}"
    setting_problems(subject, family.settings, changes).raise_as(InputError)
    try:
        return family.settings(**changes)
    except ValueError as error:  # the family's own checks
        raise InputError(f"{subject}: {error}") from error


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
    on_step: Callable[[int], None] | None = None,
    *,
    every: float = 60.0,
) -> list[Outcome]:
    """Train one host, and score every run that its training carries.

    Args:
        runs: those of one training, see :func:`~d3_plugin.experiments.plan.trainings`.
        checkpoint: where to save the training while it runs, if its trainer can be continued; a
            training found there is continued. The caller removes the file.
        on_step: called now and then with the last finished step of such a trainer.
        every: seconds between checkpoints, at least.

    Raises:
        D3Error: it fails; a damaged checkpoint, for example.
    """
    started, run = time.perf_counter(), runs[0]
    family, data = run.family or find_family(run.adapter), load_problem(run)
    device = torch.device(run.device)
    plugins = [] if run.family is None else [family.hooks]
    try:
        trainer = family.build(data, family.settings(**run.host), run.seed, device)
    except SystemExit as error:  # would end the worker, and with it the other runs
        where = f"{family.name!r} ({family.build.__module__})"
        raise PluginError(f"build of host family {where} exits: {error}") from error
    describe_trainer(make_manager(plugins), trainer)  # a trainer that no plugin knows: not later
    start = _mean_parameter(trainer.generator)
    recorders = [TermRecorder(trainer) for _ in runs]
    attached = _attached(trainer, runs, recorders, plugins)
    if checkpoint is None or not hasattr(trainer, "load_state_dict"):
        trainer.fit()
    else:
        identity = [each.training_identity() for each in runs]
        d3s, histories = [d3 for d3 in attached if d3], [terms.history for terms in recorders]
        saved = Checkpoint(checkpoint, trainer, d3s, device, identity, histories)
        _fit(saved, every, recorders, on_step)
    for terms in recorders:
        terms.close()
    evaluations: list[Evaluation] = []
    baseline = None
    for d3 in attached:
        if d3 is None:
            baseline = evaluate(trainer, seed=run.seed, draws=run.draws, plugins=plugins)
            evaluations.append(baseline)
        elif baseline is None or d3.settings.final_classifier != "both":
            evaluations.append(d3.evaluate(draws=run.draws))
        else:
            evaluations.append(_with_student(baseline, d3))
    common: dict[str, Any] = {
        "data_name": data.name,
        "history": list(trainer.history),
        "generator_start": start,
        "generator_mean": _mean_parameter(trainer.generator),
        "class_names": list(data.class_names),
        "projection": project(trainer, run.seed, plugins) if run.split == "test" else None,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": time.perf_counter() - started,
    }
    return [
        Outcome(each, evaluation, d3_history=terms.history, **common)
        for each, evaluation, terms in zip(runs, evaluations, recorders, strict=True)
    ]


class _Beside:
    """A plugin of the first D³, after whose steps all others of a training make theirs."""

    def __init__(self) -> None:
        self.others: list[D3] = []

    @hookimpl
    def d3_after_step(self) -> None:
        for d3 in self.others:
            d3.loss()


def _attached(
    trainer: Any, runs: Sequence[Run], recorders: Sequence[TermRecorder], plugins: list[Any]
) -> list[D3 | None]:
    """The D³ of each run; None for the host without it."""
    beside = _Beside()
    made: list[D3 | None] = []
    for run, terms in zip(runs, recorders, strict=True):
        first = not any(made)
        used = [*plugins, terms, beside] if first else [*plugins, terms]
        how: dict[str, Any] = {"mode": "hook" if first else "loss", "plugins": used}
        made.append(attach(trainer, settings=run.d3, seed=run.seed, **how) if run.d3 else None)
    beside.others = [d3 for d3 in made if d3][1:]
    return made


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


def _fit(
    checkpoint: Checkpoint,
    every: float,
    recorders: Sequence[TermRecorder],
    on_step: Callable[[int], None] | None,
) -> None:
    """Train, from the checkpoint if there is one, and save further ones."""
    start, saved = checkpoint.load(), time.monotonic()

    def step_done(step: int, losses: dict[str, float]) -> None:
        nonlocal saved
        for terms in recorders:
            terms.close()
        if on_step is not None:
            on_step(step)
        if time.monotonic() - saved >= every:
            checkpoint.save(step)
            saved = time.monotonic()

    checkpoint.trainer.fit(step_done, start=start)


def _mean_parameter(module: nn.Module) -> float:
    parameters = torch.cat([p.detach().abs().flatten() for p in module.parameters()])
    return parameters.cpu().double().mean().item()
