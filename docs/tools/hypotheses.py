"""Runs the hypotheses of docs/experiments.md on pseudo-unseen classes.

    python docs/tools/hypotheses.py --out runs/hypotheses
    python docs/tools/hypotheses.py --confirm runs

The second one makes trainings of the default length, in the folders ``runs/DATA`` that ``d3
compare`` then finds the validation runs of the baseline and of D³ in. Both go on where they were
stopped. Data folders are looked for in ``$D3_DATA``. make_experiments.py makes the tables of what
is finished.
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
from d3_plugin.data import digest, load, pseudo_unseen
from d3_plugin.data.validation import without_test_rows
from d3_plugin.distillation.teacher import pretrain_teacher
from d3_plugin.errors import D3Warning
from d3_plugin.evaluation import GZSLMetrics
from d3_plugin.evaluation.calibration import rescored
from d3_plugin.evaluation.protocol import score_host
from d3_plugin.experiments.parallel import run_all
from d3_plugin.experiments.plan import Run
from d3_plugin.experiments.run import find_family
from d3_plugin.experiments.store import RunStore
from d3_plugin.files import write_atomically
from d3_plugin.hooks.specs import hookimpl
from d3_plugin.hosts.host import StepBatch

DATA, CUTS, SEEDS = ("cub50", "flo64", "cub127"), (0, 1, 2), (0, 1, 2)
STEPS = {"fclswgan": 300, "diffusion": 1000, "tfvaegan": 300}
TRAININGS = (("students",), ("share3", "share30"), ("scores", "graded"))
DRAWS = 2
FORMER = D3Settings(  # the default when this was written
    weight=0.01, student_start="teacher", synthetic_rows=64, real_rows=64
)
ALL = replace(FORMER, weight=0)
CLS = replace(ALL, kl_weight=0, be_weight=0, od_weight=0)
STUDENTS = {
    "ref": CLS,
    "default": ALL,
    "graded": CLS,
    "semantic": CLS,
    "narrow": replace(ALL, embedding_dim=512),
    "sparse": replace(ALL, student_lr=2 * ALL.student_lr),
    "plain": CLS,
    "start": CLS,
    "whole": ALL,
}
WHOLE = replace(ALL, student_start="semantic")
CONFIRMED = {
    "teacher-cls": ("ref", CLS),
    "teacher": ("default", ALL),
    "cls": ("start", replace(CLS, student_start="semantic")),
    "whole": ("whole", WHOLE),
    "d3": ("half", replace(WHOLE, synthetic_rows=32, real_rows=32)),
}
"""Name in the results and settings, by the variant of the run."""
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
    if cell.host == "tfvaegan":
        return ["ref"]  # the others are tried at full steps
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


def run(cell: Cell) -> dict[str, Any]:
    """Train and score one cell."""
    started = time.perf_counter()
    data = pseudo_unseen(without_test_rows(load(cell.data)), seed=cell.cut).scaled()
    family = find_family(cell.host)
    settings = family.settings(steps=STEPS[cell.host])
    trainer = family.build(data, settings, cell.seed, torch.device("cpu"))
    extra = Extra(SHARES.get(cell.training))
    if cell.training == "students":
        students = attached_students(trainer, planned(cell), cell.seed)
        d3 = students["ref"]
    else:
        alone = cell.training in ("scores", "graded")
        used = replace(CLS, weight=0.01, cls_weight=0) if alone else FORMER
        d3 = extra.d3 = attach(trainer, settings=used, seed=cell.seed, plugins=[extra])
        if cell.training == "scores":
            extra.term = matched_scores(d3, cell.seed)
        if cell.training == "graded":
            extra.term = graded(d3, of_teacher=True)
        students = {} if alone else {"default": d3}
    trainer.fit()
    return {
        **asdict(cell),
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
    return rounded(made)


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


def confirm(out: Path, host: str, data: str) -> None:
    """Train and score all cuts of a host at its default settings; the cut is the seed as well."""
    settings = asdict(find_family(host).settings())
    variants = {"baseline": None} | {name: d3 for name, (_, d3) in CONFIRMED.items()}
    runs = [
        Run(host, data, digest(data), cut, variant, "validation", settings, d3, 3, "cpu")
        for cut in CUTS
        for variant, d3 in variants.items()
    ]
    made = run_all(runs, RunStore(out / data))
    for cut in CUTS:
        of_cut = {o.run.variant: o for o in made.values() if o.run.seed == cut}
        scores = {"host": of_cut["baseline"].evaluation.metrics}
        for variant, (name, _) in CONFIRMED.items():
            evaluation = of_cut[variant].evaluation
            assert evaluation.student_scores is not None
            scores[name] = evaluation.metrics
            scores[f"{name} alone"] = evaluation.metrics_of(evaluation.student_scores[None])
        record = {
            **asdict(Cell(host, data, cut, cut, "students")),
            "full": True,
            "scores": rounded(scores),
            "seconds": round(of_cut["baseline"].seconds, 1),
        }
        folder = out / "confirmed"
        folder.mkdir(exist_ok=True)
        write_atomically(folder / f"{host}-{data}-{cut}.json", json.dumps(record).encode())


def rounded(scores: dict[str, GZSLMetrics]) -> dict[str, dict[str, float]]:
    return {name: {k: round(v, 5) for k, v in asdict(m).items()} for name, m in scores.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/hypotheses"))
    parser.add_argument("--hosts", default="fclswgan,diffusion", help="separated by commas")
    parser.add_argument("--confirm", metavar="RUNS", type=Path, help="at the default length")
    options = parser.parse_args()
    hosts = tuple(options.hosts.split(","))
    if options.confirm:
        for data, host in product(DATA, hosts):
            confirm(options.confirm, host, data)
        return
    warnings.simplefilter("ignore", D3Warning)  # shares above 4 % are meant here
    attach_module.pretrain_teacher = remembered(pretrain_teacher)
    options.out.mkdir(parents=True, exist_ok=True)
    kept = [r for file in KEPT.glob("*.json") for r in json.loads(file.read_text())]
    done = {tuple(r[f.name] for f in fields(Cell)): r for r in kept if not r.get("full")}
    for cell in cells(hosts):
        file = options.out / ("-".join(map(str, asdict(cell).values())) + ".json")
        if not file.exists() and astuple(cell) in done:  # finished elsewhere
            write_atomically(file, json.dumps(done[astuple(cell)]).encode())
        if not file.exists():
            write_atomically(file, json.dumps(run(cell)).encode())
            print(file.stem, flush=True)


if __name__ == "__main__":
    main()
