"""Whether the baseline and D³ may share a training: only if D³ provably changes nothing in it.

For the proof the first steps of trainings with and without D³ at weight 0 are compared in all that
the host holds then.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import random
import subprocess
import sys
import threading
import types
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from d3_plugin.experiments.families import find_family
from d3_plugin.experiments.host_state import Held, held, value_digest, what_changes
from d3_plugin.experiments.run_identity import Run
from d3_plugin.experiments.training import Training
from d3_plugin.hooks.describe import describe_trainer
from d3_plugin.hooks.manager import make_manager
from d3_plugin.hosts.isolation import RandomStream
from d3_plugin.hosts.module_state import eval_mode
from d3_plugin.hosts.synthesis import synthesize

_ANSWER = "from d3_plugin.experiments.unchanged_training import answer; answer()"

_known: dict[str, str] = {}  # by what a proof depends on: once for a family and its data

STEPS = 20
"""Steps of the generator's optimiser that are watched."""


def why_apart(runs: Sequence[Run]) -> str:
    """Why these runs need a training each; empty if they may share one.

    The host alone and the host with D³ are trained for a few steps, in a process of their own: this
    one's random streams and everything that the host's modules hold stay as they are. For the
    built-in families tests prove it.

    Args:
        runs: of one training, see :func:`~d3_plugin.experiments.plan.trainings`.
    """
    with_d3 = next((run for run in runs if run.d3 is not None), None)
    if len(runs) < 2 or with_d3 is None:
        return ""
    with_plugins = [run for run in runs if run.plugin is not None]
    if with_d3.family is None and with_d3.code.ours and not with_plugins:
        return ""
    beside = [with_d3, *(run for run in with_plugins if run is not with_d3)]
    same = {"seed": 0, "variant": "", "draws": 0, "split": "", "validation": False}
    key = json.dumps([{**run.identity(), **same} for run in beside])
    if key not in _known:
        _known[key] = _proved(beside)
    return _known[key]


def _proved(with_d3: Sequence[Run]) -> str:
    """What :func:`prove` finds, in a process of its own."""
    # The pickler that joblib uses for workers; where cloudpickle is differs between versions.
    from joblib.externals.loky.backend.reduction import dumps

    family = with_d3[0].family
    if family is not None and getattr(family.hooks, "__name__", "") == "__main__":
        hooks = {name: hook for name, hook in vars(family.hooks).items() if name.startswith("d3_")}
        family = replace(family, hooks=types.SimpleNamespace(**hooks))
    try:
        runs = dumps([replace(run, family=family) for run in with_d3])
    except Exception as error:  # of the family's and the plugins' objects
        return f"{type(error).__name__}: {error}"
    done = subprocess.run(
        [sys.executable, "-c", _ANSWER],
        input=pickle.dumps((sys.path, bytes(runs))),
        capture_output=True,
        # So that asking for a GPU at import does not start CUDA, which does not survive a fork.
        env={**os.environ, "PYTORCH_NVML_BASED_CUDA_CHECK": "1"},
        check=False,
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return f"the proof failed: {last[0] if last else done.returncode}"
    return done.stdout.decode()


def answer() -> None:
    """Entry point of that process."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as pipe:
        os.dup2(2, 1)  # what the host prints is no answer
        path, runs = pickle.load(sys.stdin.buffer)
        sys.path[:] = path
        pipe.write(prove(pickle.loads(runs)))


def prove(with_d3: Sequence[Run]) -> str:
    """Why the baseline cannot share a training with these runs; empty if it can.

    Each of the trainings has a process of its own: none sees what another has left behind.
    """
    for name in ("sklearn.datasets", "torch._dynamo"):  # in each fork it would take seconds
        importlib.import_module(name)
    torch.set_num_threads(with_d3[0].threads)
    baseline = replace(with_d3[0], variant="baseline", d3=None, plugin=None)
    found: list[Held] = []
    for runs in ([baseline], [baseline], [baseline, *with_d3]):
        answer = _in_own_process(runs)
        if isinstance(answer, str):
            return answer
        found.append(answer)
    if found[0]["threads"]:
        return "its training starts threads, whose random numbers come in any order"
    return what_changes(*found)


def _in_own_process(runs: Sequence[Run]) -> Held | str:
    """What :func:`watched` finds, or why it fails."""
    if not hasattr(os, "fork"):
        return _tried(runs)
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        with open(writing, "wb") as pipe:
            pickle.dump(_tried(runs), pipe)
        os._exit(0)  # whatever threads the host has left
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(answer) if answer else "the training ended its process"


def _tried(runs: Sequence[Run]) -> Held | str:
    try:
        return watched(runs)
    except BaseException as error:  # of the host's own code
        return f"{type(error).__name__}: {error}"


class _EnoughError(BaseException):
    """Ends ``fit()``; not an Exception, which the host may catch."""


def watched(runs: Sequence[Run]) -> Held:
    """What a host holds after the first steps of a training and the synthesis for its evaluation.

    Args:
        runs: of one training; each D³ of them synthesises for its own evaluation before.
    """
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(0)
    steps, threads = 0, []
    start = threading.Thread.start

    def noted(thread: threading.Thread) -> None:
        kind = type(thread)
        if not kind.__module__.startswith("tqdm"):  # which only watches the clock
            threads.append(kind.__qualname__)
        start(thread)

    def count(*_: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == STEPS:
            raise _EnoughError

    with patch.object(threading.Thread, "start", noted):
        training = Training(runs, runs[0].family or find_family(runs[0].adapter))
        manager = make_manager(training.plugins)
        host = describe_trainer(manager, training.trainer)
        host.optimizer.register_step_post_hook(count)
        with suppress(_EnoughError):
            training.fit()
    classes = host.data.unseen_classes.repeat_interleave(host.synthetic_per_class)

    def synthesised() -> Tensor:
        with RandomStream(0, host.device, "proof"), eval_mode(host.modules), torch.no_grad():
            return synthesize(host, manager.hook, classes, differentiable=False)

    for _ in training.d3s:
        synthesised()
    rows = synthesised()
    found = held(training.trainer, host, training.plugins)
    return {**found, "synthetic rows": value_digest(rows), "threads": threads}
