"""What ``d3 tune`` tries, and by which measure it chooses."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from d3_plugin.errors import D3Error
from d3_plugin.experiments.run import Outcome

D3_SEARCH: dict[str, list[Any]] = {
    "weight": [0.0, 0.001, 0.01, 0.1, 1.0],
    "cls_weight": [0.3, 1.0, 3.0],
    "kl_weight": [0.0, 0.1, 1.0],
    "be_weight": [0.0, 0.1, 1.0],
    "od_weight": [0.0, 0.1, 1.0],
    "temperature": [1.0, 2.0, 4.0],
    "relation_temperature": [0.05, 0.1, 0.2],
    "synthetic_rows": [32, 64, 128],
    "real_rows": [32, 64, 128],
    "embedding_dim": [512, 1024, 2048],
    "student_lr": [5e-5, 1e-4, 2e-4, 5e-4, 1e-3],
    "score": ["max_softmax", "max_logit", "energy", "entropy"],
    "od_target": ["domain", "class"],
    "od_relation": ["bce", "contrastive"],
    "student_start": ["teacher", "random"],
    "final_classifier": ["both", "student", "host"],
    "ensemble_weight": [0.25, 0.5, 1.0, 2.0],
}
"""Values tried for the settings of D³; the baseline's are its family's ``search``."""

CRITERION = (
    "mean AUSUC over the cuts, which no constant on the seen scores can raise; "
    "where it is equal to 0.01 points, the mean H"
)

Trial = dict[str, Any]
"""``changes``; ``ausuc``, ``harmonic``, ``oracle_harmonic``: means over cuts; ``per_cut`` AUSUC."""


def sample(
    space: Mapping[str, Sequence[Any]], trials: int, seed: int, default: Any, fixed: Collection[str]
) -> list[dict[str, Any]]:
    """Changes to try: first none, then random draws from the space, without repetition.

    Args:
        space: values by the name of a setting.
        trials: number of trials; fewer if the space has fewer.
        seed: of the draw.
        default: settings that count as no change.
        fixed: names that the user has set, which are not searched.
    """
    from sklearn.model_selection import ParameterGrid, ParameterSampler

    free = {name: list(values) for name, values in space.items() if name not in fixed}
    if not free:
        return [{}]
    wanted = min(trials, len(ParameterGrid(free)))
    drawn = ParameterSampler(free, wanted, random_state=seed)
    changes: list[dict[str, Any]] = [{}]
    for values in drawn:
        change = {k: v for k, v in values.items() if v != getattr(default, k)}
        if change.get("final_classifier", getattr(default, "final_classifier", None)) != "both":
            change.pop("ensemble_weight", None)  # has no effect there: would repeat a trial
        if change not in changes:
            changes.append(change)
    return changes[:trials]


def judge(changes: dict[str, Any], outcomes: Sequence[Outcome | None]) -> Trial:
    """The trial that these validation runs, one per cut, make; a failed run leaves None in it."""
    metrics = [outcome.evaluation.metrics for outcome in outcomes if outcome is not None]
    names = ("ausuc", "harmonic", "oracle_harmonic")
    if len(metrics) < len(outcomes):
        return {"changes": changes, **dict.fromkeys(names), "per_cut": []}
    means = {name: float(np.mean([getattr(m, name) for m in metrics])) for name in names}
    return {"changes": changes, **means, "per_cut": [m.ausuc for m in metrics]}


def best(trials: Sequence[Trial]) -> int:
    """Index of the best trial by :data:`CRITERION`; of equal ones, the first.

    Raises:
        D3Error: the first trial, which changes nothing, failed.
    """
    if trials[0]["ausuc"] is None:
        raise D3Error("the trial that changes nothing failed; nothing can be compared with it")
    keys = [
        (-1.0, 0.0) if trial["ausuc"] is None else (round(trial["ausuc"], 4), trial["harmonic"])
        for trial in trials
    ]
    return keys.index(max(keys))
