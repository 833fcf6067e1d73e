"""Runs the hypotheses of docs/experiments.md on pseudo-unseen classes.

    python docs/tools/hypotheses.py --out runs/hypotheses

It goes on where it was stopped. Data folders are looked for in ``$D3_DATA``. make_experiments.py
makes the tables of what is finished.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple, dataclass, field, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from hypothesis_terms import (
    SemanticClassifier,
    Term,
    graded,
    matched_scores,
    weight_relations,
)
from torch import Tensor

from d3_plugin import D3, D3Settings, attach
from d3_plugin.attachment import attach as attach_module
from d3_plugin.data import load, pseudo_unseen
from d3_plugin.data.validation import without_test_rows
from d3_plugin.distillation.teacher import pretrain_teacher
from d3_plugin.errors import D3Warning
from d3_plugin.evaluation.calibration import rescored
from d3_plugin.evaluation.protocol import score_host
from d3_plugin.experiments.files import write_atomically
from d3_plugin.experiments.run import find_family
from d3_plugin.hooks.specs import hookimpl
from d3_plugin.hosts.host import StepBatch

DATA, CUTS, SEEDS = ("cub50", "flo64", "cub127"), (0, 1, 2), (0, 1, 2)
STEPS = {"fclswgan": 300, "diffusion": 1000, "tfvaegan": 300}
TRAININGS = (("students",), ("share3", "share30"), ("scores", "graded"))
DRAWS = 2
CLS = D3Settings(weight=0, kl_weight=0, be_weight=0, od_weight=0)
STUDENTS = {
    "ref": CLS,
    "default": D3Settings(weight=0),
    "graded": CLS,
    "semantic": CLS,
    "narrow": D3Settings(weight=0, embedding_dim=512),
    "sparse": D3Settings(weight=0, student_lr=2 * D3Settings().student_lr),
    "plain": CLS,
    "start": CLS,
    "whole": D3Settings(weight=0),
}
FIRST_CUT, LATER_CUTS = ("narrow", "sparse"), ("plain", "start", "whole")
SHARES = {"share3": 0.03, "share30": 0.3, "scores": 0.1, "graded": 0.1}
KEPT = Path(__file__).parents[1] / "experiments"  # runs in the repository


@dataclass(frozen=True)
class Cell:
    """One training of a host: all students at once, or one variant of the generator."""

    host: str
    data: str
    cut: int
    seed: int
    training: str


def cells(hosts: tuple[str, ...]) -> Iterator[Cell]:
    """In such an order that any first part is balanced over data sets and hosts."""
    for seed, groups in product(SEEDS, (TRAININGS[:2], TRAININGS[2:])):
        for cut, group in product(CUTS, groups):
            for data, host, training in product(DATA, hosts, group):
                yield Cell(host, data, cut, seed, training)


@dataclass
class Extra:
    """A term beside D³'s own, and the control of D³'s share of the generator's gradient."""

    target: float | None = None
    term: Term | None = None  # set once D³ is attached: it needs the teacher
    d3: D3 | None = None
    shares: list[float] = field(default_factory=list)

    @hookimpl
    def d3_extra_terms(self, batch: StepBatch) -> dict[str, Tensor]:
        return {} if self.term is None else {"extra": self.term(batch)}

    @hookimpl
    def d3_after_step(self, values: dict[str, Tensor]) -> None:
        share = float(values.get("gradient_share", 0))
        if self.d3 is None or self.target is None or not share > 0:
            return
        self.shares.append(share)
        weight = self.d3.settings.weight * (self.target / share) ** 0.3
        self.d3.settings = replace(self.d3.settings, weight=min(max(weight, 1e-6), 1e6))


def planned(cell: Cell) -> list[str]:
    """The students of a training."""
    left_out = LATER_CUTS if cell.cut == 0 else FIRST_CUT
    left_out += ("sparse",) if cell.host == "diffusion" else ()
    return [name for name in STUDENTS if name not in left_out]


def attached_students(trainer: Any, names: list[str], seed: int) -> dict[str, D3]:
    """Every student on one trainer, which trains as without them."""
    students = {}
    for name in names:
        settings = STUDENTS[name]
        extra = Extra()
        d3 = attach(trainer, mode="loss", settings=settings, seed=seed, plugins=[extra])
        if name == "graded":
            extra.term = graded(d3, of_teacher=False)
        if name in ("start", "whole"):
            semantic = SemanticClassifier(d3.host.data, d3.distiller.teacher.classify)
            with torch.no_grad():
                d3.distiller.student.classify.weight.copy_(semantic.weight())
                d3.distiller.student.classify.bias.copy_(semantic.bias)
        if name in ("semantic", "plain"):
            distiller = d3.distiller
            distiller.student.classify = SemanticClassifier(
                d3.host.data, distiller.teacher.classify
            )  # type: ignore[assignment]
            extra.term = weight_relations(d3) if name == "semantic" else None
            how: Any = {"mode": "loss", "labels_are": "class_ids", "seed": seed}
            d3 = D3(d3.host, d3._hooks, distiller, settings, d3._step.stream, **how)
        students[name] = d3
    step = trainer.step

    def with_students(number: int) -> Any:
        losses = step(number)
        for name, d3 in students.items():
            if (number - 1) % (d3.host.interval * (1 + (name == "sparse"))) == 0:
                d3.loss()
        return losses

    trainer.step = with_students
    return students


def run(cell: Cell, students_at_full_steps: list[str] | None = None) -> dict[str, Any]:
    """Train and score one cell; with students given, it has the default number of steps."""
    started = time.perf_counter()
    data = pseudo_unseen(without_test_rows(load(cell.data)), seed=cell.cut).scaled()
    family = find_family(cell.host)
    full = students_at_full_steps is not None
    settings = family.settings(**({} if full else {"steps": STEPS[cell.host]}))
    trainer = family.build(data, settings, cell.seed, torch.device("cpu"))
    extra = Extra(SHARES.get(cell.training))
    if cell.training == "students":
        names = students_at_full_steps or planned(cell)
        students = attached_students(trainer, names, cell.seed)
        d3 = students["ref"]
    else:
        alone = cell.training in ("scores", "graded")
        used = replace(CLS, weight=0.01, cls_weight=0) if alone else D3Settings()
        d3 = extra.d3 = attach(trainer, settings=used, seed=cell.seed, plugins=[extra])
        if cell.training == "scores":
            extra.term = matched_scores(d3, cell.seed)
        if cell.training == "graded":
            extra.term = graded(d3, of_teacher=True)
        students = {} if alone else {"default": d3}
    trainer.fit()
    return {
        **asdict(cell),
        "full": full,
        "scores": scored(d3, students, cell.seed),
        "share": statistics.median(extra.shares[len(extra.shares) // 2 :] or [0.0]),
        "seconds": round(time.perf_counter() - started, 1),
    }


def scored(d3: D3, students: dict[str, D3], seed: int) -> dict[str, dict[str, float]]:
    """Metrics of the host's classifier, and of each student alone and added to it."""
    data = d3.host.data
    evaluation = score_host(
        d3.host, d3._hooks, seed=seed, draws=DRAWS, distiller=d3.distiller, final_classifier="both"
    )
    assert evaluation.host_scores is not None
    made = {"host": evaluation.metrics_of(evaluation.host_scores)}
    rows = torch.cat([data.test_seen_features, data.test_unseen_features])
    for name, of in students.items():
        with torch.no_grad():
            own = of.distiller.student(rows)[0].log_softmax(dim=1).numpy()
        both = replace(evaluation, student_scores=own)
        made[name] = rescored(both, ensemble_weight=0.5, seen_offset=0.3).metrics
        made[f"{name} alone"] = evaluation.metrics_of(own[None])
    return {name: {k: round(v, 5) for k, v in asdict(m).items()} for name, m in made.items()}


def remembered(pretrain: Callable[..., Any]) -> Callable[..., Any]:
    """The same teacher is trained once."""
    made: dict[Any, Any] = {}

    def cached(features: Tensor, labels: Tensor, num_seen: int, **options: Any) -> Any:
        state = torch.get_rng_state()
        key = features.sum().item(), options["embedding_dim"], state.numpy().tobytes()
        if key not in made:
            if len(made) > 4:
                made.clear()
            made[key] = pretrain(features, labels, num_seen, **options), torch.get_rng_state()
        teacher, after = made[key]
        torch.set_rng_state(after)
        return teacher

    return cached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/hypotheses"))
    parser.add_argument("--hosts", default="fclswgan,diffusion", help="separated by commas")
    parser.add_argument(
        "--full", metavar="STUDENTS", help="these alone, at the default number of steps"
    )
    options = parser.parse_args()
    names = options.full.split(",") if options.full else None
    warnings.simplefilter("ignore", D3Warning)  # shares above 4 % are meant here
    attach_module.pretrain_teacher = remembered(pretrain_teacher)
    options.out.mkdir(parents=True, exist_ok=True)
    kept = [r for file in KEPT.glob("*.json") for r in json.loads(file.read_text())]
    done = {
        tuple(r[f.name] for f in fields(Cell)): r
        for r in kept
        if r.get("full", False) == bool(names)
    }
    for cell in cells(tuple(options.hosts.split(","))):
        file = options.out / ("-".join(map(str, asdict(cell).values())) + ".json")
        if not file.exists() and astuple(cell) in done:  # finished elsewhere
            write_atomically(file, json.dumps(done[astuple(cell)]).encode())
        if not file.exists() and (names is None or cell.training == "students"):
            write_atomically(file, json.dumps(run(cell, names)).encode())
            print(file.stem, flush=True)


if __name__ == "__main__":
    main()
