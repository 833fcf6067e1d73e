"""Prints what one run of ``d3 compare`` with D³ spends its CPU time on, as Markdown.

    python docs/tools/profile_run.py cub50 fclswgan,tfvaegan,diffusion

A fifth of the training steps are made, and their time is multiplied by five.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from d3_adapters.diffusion import DiffusionTrainer
from d3_adapters.fclswgan import FCLSWGANTrainer
from d3_adapters.tfvaegan import TFVAEGANTrainer
from d3_plugin import D3Settings
from d3_plugin.attachment import attach as attach_module
from d3_plugin.attachment.hook_mode import StepHook
from d3_plugin.evaluation import protocol
from d3_plugin.experiments import run as run_module
from d3_plugin.experiments.plan import Run
from d3_plugin.report.tables import aligned

PART = 5
STEPS = ("host's steps", "D³'s steps")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("adapters", help="separated by commas")
    options = parser.parse_args()
    torch.set_num_threads(1)
    spent: Counter[str] = Counter()
    for trainer in (FCLSWGANTrainer, TFVAEGANTrainer, DiffusionTrainer):
        watch(trainer, "step", STEPS[0], spent)
    watch(StepHook, "_before_step", STEPS[1], spent)
    watch(attach_module, "pretrain_teacher", "teacher", spent)
    watch(protocol, "train_final", "final classifiers", spent)
    watch(protocol, "mean_metrics", "metrics", spent)
    rows: list[list[str]] = []
    for adapter in options.adapters.split(","):
        steps = run_module.find_family(adapter).settings().steps
        execute(adapter, options.data, steps=2)  # imports
        spent.clear()
        started = time.process_time()
        execute(adapter, options.data, steps=steps // PART)
        spent["rest"] = time.process_time() - started - (spent.total() - spent[STEPS[1]])
        spent[STEPS[0]] -= spent[STEPS[1]]  # which are made inside
        for name in STEPS:
            spent[name] *= PART
        rows = rows or [["", "CPU seconds", *spent]]
        shares = [f"{spent[name] / spent.total():.1%}" for name in rows[0][2:]]
        rows.append([adapter, f"{spent.total():.0f}", *shares])
        print(aligned(rows), flush=True)


def execute(adapter: str, data: str, *, steps: int) -> None:
    """One run on the test problem; nothing is kept."""
    host = asdict(run_module.find_family(adapter).settings(steps=steps))
    run_module.execute([Run(adapter, data, "", 0, "d3", "test", host, D3Settings(), 3, "cpu")])


def watch(owner: Any, name: str, part: str, spent: Counter[str]) -> None:
    """Have a function's time counted; CPU time, so that other work on the machine does not."""
    function: Callable[..., Any] = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        started = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            spent[part] += time.process_time() - started

    setattr(owner, name, call)


if __name__ == "__main__":
    main()
