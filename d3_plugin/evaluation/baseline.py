"""Scores a trainer as it is, without D³."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from d3_plugin.checks import Count, Seed, check_arguments
from d3_plugin.evaluation.protocol import Evaluation
from d3_plugin.evaluation.protocol import evaluate as evaluate_host
from d3_plugin.hooks.manager import make_manager
from d3_plugin.hosts.describe import describe_trainer


def evaluate(
    trainer: Any, *, seed: Seed = 0, draws: Count = 1, plugins: Iterable[object] = ()
) -> Evaluation:
    """U, S, H, AUSUC of a trained baseline, measured as :meth:`d3_plugin.D3.evaluate` does.

    Args:
        trainer: a trainer object that an installed plugin, or one of ``plugins``, knows.
        seed: of the noise and of the final classifier.
        draws: average over so many draws of synthetic features.
        plugins: further plugins.

    Raises:
        InputError: draws below 1.
        HostError: no plugin knows the trainer.
    """
    check_arguments(evaluate, locals())
    manager = make_manager(plugins)
    host = describe_trainer(manager, trainer)
    return evaluate_host(host, manager.hook, seed=seed, draws=draws)
