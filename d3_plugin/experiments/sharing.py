"""Whether the baseline and D³ may share a training: only if D³ provably changes nothing in it."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import types
from collections.abc import Sequence
from dataclasses import replace

from d3_plugin.experiments.run_identity import Run

_ANSWER = "from d3_plugin.experiments.unchanged_training import answer; answer()"

_known: dict[str, str] = {}  # by what a proof depends on: once for a family and its data


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
    """What the proof of :mod:`~d3_plugin.experiments.unchanged_training` finds, in a process."""
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
