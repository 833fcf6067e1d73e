"""Makes the runs of one training, or of one each if they may not share it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from d3_plugin.errors import warn
from d3_plugin.experiments.families import find_family
from d3_plugin.experiments.run_identity import Run, checkpoint_name
from d3_plugin.experiments.training import OnStep, Outcome, Training
from d3_plugin.experiments.unchanged_training import why_apart

__all__ = ["Outcome", "execute", "find_family"]


def execute(
    runs: Sequence[Run],
    checkpoint: Path | None = None,
    on_step: OnStep | None = None,
    *,
    every: float = 60.0,
) -> list[Outcome]:
    """Train one host, and score every run that its training carries.

    If the runs may not share a training, each gets one of its own; see
    :func:`~d3_plugin.experiments.unchanged_training.why_apart`.

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
        warn(f"{runs[0].adapter}: the baseline is trained apart from D³, as every row is: {reason}")
        outcomes = []
        for run in runs:
            own = checkpoint and checkpoint.with_name(checkpoint_name([run]))
            outcomes += execute([run], own, on_step, every=every)
        return outcomes
    training = Training(runs, runs[0].family or find_family(runs[0].adapter))
    training.fit(checkpoint, on_step, every)
    return training.outcomes()
