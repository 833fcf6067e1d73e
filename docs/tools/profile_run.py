"""Prints what one run of ``d3 compare`` with D³ spends its CPU time on, as Markdown.

python docs/tools/profile_run.py cub50 fclswgan,tfvaegan,diffusion
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from d3_plugin import D3Settings
from d3_plugin.attachment import attach as attach_module
from d3_plugin.attachment.hook_mode import StepHook
from d3_plugin.evaluation import protocol
from d3_plugin.experiments import run as run_module
from d3_plugin.experiments.plan import Run
from d3_plugin.experiments.report import aligned

PARTS = {
    "loading": (run_module, "load_problem"),
    "teacher": (attach_module, "pretrain_teacher"),
    "D³ steps": (StepHook, "_before_step"),
    "final classifiers": (protocol, "_train_final_classifier"),
    "scoring": (protocol, "_metrics"),
}
"""What is measured; the host's own training is what remains."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("adapters", help="separated by commas")
    options = parser.parse_args()
    torch.set_num_threads(1)
    spent: Counter[str] = Counter()
    for name, (owner, function) in PARTS.items():
        setattr(owner, function, watched(getattr(owner, function), name, spent))
    rows = [["", "CPU seconds", "host's training", *PARTS]]
    for adapter in options.adapters.split(","):
        execute(adapter, options.data, steps=2)  # imports
        spent.clear()
        started = time.process_time()
        execute(adapter, options.data)
        whole = time.process_time() - started
        shares = [whole - spent.total(), *(spent[name] for name in PARTS)]
        rows.append([adapter, f"{whole:.0f}", *(f"{part / whole:.1%}" for part in shares)])
        print(aligned(rows), flush=True)


def execute(adapter: str, data: str, **changes: Any) -> None:
    host = asdict(run_module.find_family(adapter).settings(**changes))
    run_module.execute(Run(adapter, data, "", 0, "d3", "test", host, D3Settings(), 3, "cpu"))


def watched(function: Callable[..., Any], name: str, spent: Counter[str]) -> Callable[..., Any]:
    """The same function; CPU time, so that other work on the machine does not count."""

    def call(*args: Any, **kwargs: Any) -> Any:
        started = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            spent[name] += time.process_time() - started

    return call


if __name__ == "__main__":
    main()
