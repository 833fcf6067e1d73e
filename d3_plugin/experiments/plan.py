"""Which runs a comparison consists of."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from d3_plugin.distillation.settings import D3Settings
from d3_plugin.experiments.run_identity import Run
from d3_plugin.experiments.training_function import TrainingFunction


def trainings(runs: Iterable[Run]) -> list[list[Run]]:
    """The runs of each training, in their order.

    With weight 0 D³ leaves the host's training bit-identical: one training then serves the baseline
    and every student. A training function, which attaches a single D³, serves one run.
    """
    together: dict[str, list[Run]] = {}
    for run in runs:
        reached = run.d3 is not None and run.d3.weight
        in_loop = run.family is not None and isinstance(run.family.build, TrainingFunction)
        alone = run.variant if reached or in_loop else None
        host = replace(run, plugin=None).identity()
        key = json.dumps({**host, "variant": alone, "d3": None}, sort_keys=True)
        together.setdefault(key, []).append(run)
    return list(together.values())


def validation_cuts(data: str, seeds: int, cuts: int) -> dict[int, list[int]]:
    """For each seed, the seeds of the validation runs that offsets for its test run come from.

    All seeds of a folder share one problem and so the first ``cuts`` pseudo-unseen cuts of its seen
    classes, or the first ``cuts`` trainings on its own validation split. With ``digits`` each seed
    is a problem of its own, whose training rows are test rows of others: it has its own cut alone.
    """
    if data == "digits":
        return {seed: [seed] for seed in range(seeds)}
    return {seed: list(range(min(cuts, seeds))) for seed in range(seeds)}


def plan(
    firsts: Iterable[Run],
    seeds: int,
    variants: Mapping[str, D3Settings | None],
    validated: Collection[int] = (),
    plugins: Mapping[str, object] | None = None,
) -> list[Run]:
    """Every variant on the test problem of every seed; tuned ones also on validation problems.

    Tuned are ``baseline``, ``d3``, and ``d3`` with a plugin. The variants of a seed are adjacent.

    Args:
        firsts: of each host family a run, whose seed, variant, split and D³ are replaced.
        seeds: how many.
        variants: settings of D³ by the variant's name; None for the host without D³.
        validated: seeds with validation runs, which offsets are chosen on.
        plugins: what is added to +D³, by the variant's name.
    """
    plugins = plugins or {}
    tuned = ("baseline", "d3", *plugins)
    runs = []
    for first in firsts:
        for seed in range(seeds):
            on_test = replace(first, seed=seed, split="test", validation=False)
            on_cut = replace(first, seed=seed, split="validation")
            for variant in tuned if seed in validated else ():
                d3, plugin = variants[variant], plugins.get(variant)
                runs.append(replace(on_cut, variant=variant, d3=d3, plugin=plugin))
            for variant, d3 in variants.items():
                plugin = plugins.get(variant)
                runs.append(replace(on_test, variant=variant, d3=d3, plugin=plugin))
    return runs
