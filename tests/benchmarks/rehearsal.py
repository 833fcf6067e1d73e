"""Every phase of a comparison at the sizes of the field's data sets, on made-up features.

    python -m tests.benchmarks.rehearsal SUN CUB       # or all five; --families, --steps

Prints a row per data set and host family, as in docs/performance.md: CPU seconds in one thread and
the peak resident set of each phase, with the settings of ``examples/benchmarks``. The teacher is
trained in full, the final classifier for one epoch, and the host for a few steps, half of them in
each kind of pass of a TF-VAEGAN; the last columns extrapolate to all epochs and published steps.
Linux only, for the memory.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.io
import torch
from torch import Tensor

from d3_plugin import D3, attach
from d3_plugin.data import GZSLData, load
from d3_plugin.evaluation.result import Evaluation
from d3_plugin.experiments.families import find_family, host_settings
from d3_plugin.experiments.settings_file import read_settings
from d3_plugin.hosts.module_state import eval_mode
from d3_plugin.hosts.synthesis import synthesize
from d3_plugin.report.page import write_report
from d3_plugin.report.results import write_results
from tests.benchmarks.table import resident
from tests.report import made_up

SETTINGS = Path(__file__).resolve().parents[2] / "examples" / "benchmarks"
FAMILIES = ("fclswgan", "tfvaegan", "diffusion")


class Size(NamedTuple):
    """Rows and classes of the Proposed Split, and the widths of features and attributes."""

    trainval: int
    test_seen: int
    test_unseen: int
    seen: int
    unseen: int
    attributes: int
    features: int = 2048


SIZES = {
    "APY": Size(5932, 1483, 7924, 20, 12, 64),
    "AWA2": Size(23527, 5882, 7913, 40, 10, 85),
    "CUB": Size(7057, 1764, 2967, 150, 50, 312),
    "FLO": Size(5631, 1403, 1155, 82, 20, 1024),
    "SUN": Size(10320, 2580, 1440, 645, 72, 102),
}


def write_folder(folder: Path, size: Size) -> None:
    """Features like those of a ResNet after its ReLU, around a mean for each class."""
    rng = np.random.default_rng(0)
    classes = size.seen + size.unseen
    attributes = rng.random((classes, size.attributes), dtype=np.float32)
    turns = [np.arange(size.trainval + size.test_seen) % size.seen]
    turns.append(size.seen + np.arange(size.test_unseen) % size.unseen)
    labels = np.concatenate(turns)
    width = (size.attributes, size.features)
    means = (attributes - 0.5) @ rng.standard_normal(width, dtype=np.float32)
    features = means[labels] / means.std()
    features += rng.standard_normal(features.shape, dtype=np.float32) - 0.5
    res = {"features": features.clip(0).T, "labels": labels[:, None] + 1.0}
    scipy.io.savemat(folder / "res101.mat", res)
    ends = np.cumsum([size.trainval, size.test_seen, size.test_unseen])
    numbers = np.split(np.arange(1, ends[-1] + 1), ends[:-1])
    sets = zip(("trainval_loc", "test_seen_loc", "test_unseen_loc"), numbers, strict=True)
    splits = {name: rows[:, None].astype(np.float64) for name, rows in sets}
    scipy.io.savemat(folder / "att_splits.mat", {"att": attributes.T, **splits})


@dataclass
class Phases:
    """CPU seconds and peak GB of each phase."""

    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        Path("/proc/self/clear_refs").write_text("5")
        start = time.process_time()
        yield
        self.seconds[name] = time.process_time() - start
        self.memory[name] = resident("VmHWM") / 1024


def rehearse(
    data: GZSLData, family_name: str, host: dict[str, Any], steps: int, phases: Phases
) -> dict[str, float]:
    """Build, attach, train, synthesise, classify, score and report once; seconds per unit."""
    family = find_family(family_name)
    settings = host_settings(family, {**host, "steps": 1, "classifier_epochs": 1})
    device = torch.device("cpu")
    with phases.measured("start"):  # what a host does before its first step and after its last
        trainer = family.build(data, settings, 0, device)
        trainer.fit()
    with phases.measured("attach"):
        d3 = attach(trainer, mode="loss")
    with phases.measured("step"):
        middle = -(-len(data.train_labels) // settings.batch_size)  # of two kinds of passes
        for number in range(middle - steps // 2, middle + steps // 2):
            trainer.step(number + 1)
    with phases.measured("step of D³"):
        for _ in range(steps):
            d3.loss()
    with phases.measured("synthesis"):
        rows, labels = synthetic_rows(d3)
    with phases.measured("classifier"), torch.no_grad(), eval_mode(d3.host.modules):
        rows = torch.cat([data.train_features, rows])
        rows = transformed(d3, rows)
        with torch.enable_grad():
            classifier = trainer.train_classifier(rows, torch.cat([data.train_labels, labels]))
    del rows
    with phases.measured("scoring"):
        evaluation = scored(d3, classifier)
    with phases.measured("report"), tempfile.TemporaryDirectory() as out:
        report(Path(out), data, evaluation)
    return {
        "step": phases.seconds["step"] / (steps // 2 * 2),
        "step of D³": phases.seconds["step of D³"] / steps / d3.host.interval,
    }


def transformed(d3: D3, rows: Tensor) -> Tensor:
    """In the space of the host's final classifier."""
    found = d3._hooks.d3_transform_features(host=d3.host, features=rows)
    return rows if found is None else found


def synthetic_rows(d3: D3) -> tuple[Tensor, Tensor]:
    """Of every unseen class, as many as the final classifier is trained on."""
    classes = d3.host.data.unseen_classes.repeat_interleave(d3.host.synthetic_per_class)
    with eval_mode(d3.host.modules):
        return synthesize(d3.host, d3._hooks, classes, differentiable=False), classes


def scored(d3: D3, classifier: Any) -> Evaluation:
    """The student on the test rows, and the host's classifier beside it."""
    student = d3.evaluate(final_classifier="student")
    data = d3.host.data
    with torch.no_grad(), eval_mode(d3.host.modules):
        rows = torch.cat([data.test_seen_features, data.test_unseen_features])
        scores = classifier(transformed(d3, rows)).numpy()[None]
    metrics = student.metrics_of(scores)
    return replace(student, host_scores=scores, scores=scores, metrics=metrics)


def report(out: Path, data: GZSLData, evaluation: Evaluation) -> None:
    """Of two seeds, each with its cut, baseline and +D³."""
    prior = np.full(data.num_classes, 1 / data.num_classes)
    evaluation = replace(evaluation, prior=prior)
    runs = made_up.runs()
    record = replace(runs[0].record, class_names=list(data.class_names), projection=None)
    runs = [replace(run, evaluation=evaluation, record=record) for run in runs]
    content = write_results(out / "results.json", made_up.content(made=runs))
    write_report(out, "results.json", content)


def row(name: str, family: str, host: dict[str, Any], phases: Phases, per: dict[str, float]) -> str:
    """Of the table: seconds and GB of each phase, with all epochs, and of a whole run."""
    seconds = dict(phases.seconds)
    seconds["classifier"] *= host_settings(find_family(family), host).classifier_epochs
    once = sum(seconds[phase] for phase in seconds if not phase.startswith("step"))
    hours = (once + host["steps"] * (per["step"] + per["step of D³"])) / 3600
    words = {phase: f"{number:.3g} s" for phase, number in seconds.items()}
    words["step"] = f"{1e3 * per['step']:.4g} + {1e3 * per['step of D³']:.3g} ms"
    shown = [f"{words[p]}, {phases.memory[p]:.1f}" for p in words if p != "step of D³"]
    published = f"{host['steps']:,}"
    return f"| {' | '.join([name, family, *shown, published, f'{hours:.1f} h'])} |"


PHASES = ("load", "start, end", "attach", "step + D³", "synthesis", "classifier", "scoring")
HEADER = ("data", "host", *PHASES, "report", "published steps", "whole run")


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SIZES)}")
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--steps", type=int, default=10, help="host steps that are timed")
    options = parser.parse_args(None if arguments is None else list(arguments))
    torch.set_num_threads(1)
    print(f"| {' | '.join(HEADER)} |\n|{' --- |' * len(HEADER)}", flush=True)
    for name in options.names or SIZES:
        phases = Phases()
        with tempfile.TemporaryDirectory() as folder:
            write_folder(Path(folder), SIZES[name])
            with phases.measured("load"):
                data = load(folder).scaled()
        for family in options.families.split(","):
            host = read_settings(SETTINGS / f"{name}-{family}.json").host
            per = rehearse(data, family, host, options.steps, phases)
            print(row(name, family, host, phases, per), flush=True)


if __name__ == "__main__":
    main()
