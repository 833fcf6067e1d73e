"""Runs the study of docs/losses.md: what each loss adds, by the student's start.

    python docs/tools/losses_by_start.py --out runs/losses

Goes on where it was stopped, and prints the table of what is finished. Data folders are looked for
in ``$D3_DATA``. One training of a host carries all its students.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from d3_plugin import D3Settings
from d3_plugin.attachment import attach as attach_module
from d3_plugin.data import digest
from d3_plugin.experiments.families import find_family
from d3_plugin.experiments.run import Run
from d3_plugin.experiments.shared_training import execute
from d3_plugin.experiments.store import RunStore
from d3_plugin.report.statistics import interval

DATA, CUTS, HOSTS = ("cub50", "flo64", "cub127"), (0, 1, 2), ("fclswgan", "diffusion")
STARTS = ("random", "teacher", "semantic")
ALL = D3Settings()
CLS = replace(ALL, kl_weight=0.0, be_weight=0.0, od_weight=0.0)
LOSSES = {
    "cls": CLS,
    "kl": replace(CLS, kl_weight=ALL.kl_weight),
    "be": replace(CLS, be_weight=ALL.be_weight),
    "od": replace(CLS, od_weight=ALL.od_weight),
    "all": ALL,
}
VARIANTS = {
    f"{start}-{name}": replace(settings, student_start=start)
    for start, (name, settings) in itertools.product(STARTS, LOSSES.items())
}


def runs(host: str, data: str, cut: int) -> list[Run]:
    """The baseline and every student, all carried by one training."""
    settings = asdict(find_family(host).settings())
    folder = str(Path(os.environ["D3_DATA"]) / data)
    common = (host, folder, digest(folder), cut)
    return [
        Run(*common, variant, "validation", settings, d3, 2, "cpu")
        for variant, d3 in {"baseline": None, **VARIANTS}.items()
    ]


def table(store: RunStore) -> None:
    """AUSUC over L_cls alone of the same start, and the level of L_cls over the baseline."""
    gains: dict[tuple[str, str], dict[str, list[float]]] = {}
    for host, data, cut in itertools.product(HOSTS, DATA, CUTS):
        ausuc = {}
        for run in runs(host, data, cut):
            named = replace(run, variant=f"{data}-{run.variant}")
            if (outcome := store.load(named)) is not None:
                ausuc[run.variant] = 100 * outcome.evaluation.metrics.ausuc
        if len(ausuc) <= len(VARIANTS):
            continue
        for variant in VARIANTS:
            start, name = variant.split("-")
            base = ausuc["baseline"] if name == "cls" else ausuc[f"{start}-cls"]
            gains.setdefault((host, variant), {}).setdefault(data, []).append(ausuc[variant] - base)
    for (host, variant), by_data in gains.items():
        cells = [f"{data} {', '.join(f'{v:+.1f}' for v in by_data[data])}" for data in by_data]
        mean = interval(np.concatenate(list(by_data.values())))
        half = mean["half_width"]
        whole = f"{mean['mean']:+.2f}" + ("" if half is None else f" ± {half:.2f}")
        print(f"{host:<10} {variant:<16} {whole:<14} {'; '.join(cells)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    store = RunStore(parser.parse_args().out)
    store.prepare()
    # The teacher depends on the seed alone: it is trained once for all students of a training.
    train_teacher = attach_module.pretrain_teacher
    for cut, data, host in itertools.product(CUTS, DATA, HOSTS):
        planned = runs(host, data, cut)
        if store.load(replace(planned[-1], variant=f"{data}-{planned[-1].variant}")) is not None:
            continue
        made: dict[int, object] = {}

        @functools.wraps(train_teacher)
        def once(*args: object, made: dict[int, object] = made, **options: object) -> object:
            import copy

            import torch

            if 0 not in made:
                made[0] = train_teacher(*args, **options)
                made[1] = torch.get_rng_state()
            torch.set_rng_state(made[1])
            return copy.deepcopy(made[0])

        attach_module.pretrain_teacher = once
        for outcome in execute(planned):
            named = replace(outcome.run, variant=f"{data}-{outcome.run.variant}")
            store.save(replace(outcome, run=named))
        print(f"finished {host} {data} cut {cut}", flush=True)
    table(store)


if __name__ == "__main__":
    main()
