"""Prints what ensemble_weight and seen_offset do on pseudo-unseen classes, as Markdown.

    python docs/tools/make_ensemble_tables.py runs/cub50 runs/cub127 ...

Each folder is the ``--out`` of a finished ``d3 compare``; its validation runs of +D³ are read, and
nothing of its test runs.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from d3_plugin import D3Settings, InputError
from d3_plugin.evaluation.metrics import GZSLMetrics, gzsl_metrics
from d3_plugin.report.tables import aligned, cell

WEIGHT, OFFSET = D3Settings().ensemble_weight, D3Settings().seen_offset
WEIGHTS = (0.0, 0.25, 0.35, 0.5, 0.7, 1.0, 2.0)
PAIRS = ((0.5, 0.3), (WEIGHT, OFFSET), (1.0, 0.4))
OFFSETS = (0.0, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
CONSTANTS = (0.0, 0.6, 0.9, 1.2, 1.5, 1.8)


@dataclass(frozen=True, eq=False)
class Cut:
    """Log-probabilities of host and student, both (draws, N, C), on one validation cut."""

    host: npt.NDArray[np.float64]
    student: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    seen: npt.NDArray[np.int64]
    unseen: npt.NDArray[np.int64]

    def metrics(self, weight: float, offset: float) -> list[GZSLMetrics]:
        """Of each draw, with the student's weight and what is taken off the seen scores."""
        scores = self.host + weight * self.student
        scores[:, :, self.seen] -= offset
        return [gzsl_metrics(draw, self.labels, self.seen, self.unseen) for draw in scores]

    def ausuc(self, scores: npt.NDArray[np.float64]) -> list[float]:
        """Of each draw of scores (draws, N, C)."""
        return [gzsl_metrics(draw, self.labels, self.seen, self.unseen).ausuc for draw in scores]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="--out of finished d3 compare")
    cuts = {folder.name: read(folder) for folder in parser.parse_args().folders}
    print(f"AUSUC by `ensemble_weight`\n\n{weight_table(cuts)}\n")
    print(f"AUSUC by how the two are combined\n\n{rule_table(cuts)}\n")
    print(f"H by `ensemble_weight` and `seen_offset`\n\n{pair_table(cuts)}\n")
    print(f"H by `seen_offset`, at weight {WEIGHT}\n\n{offset_table(cuts, OFFSETS, by_classes)}\n")
    constants = offset_table(cuts, CONSTANTS, constant)
    print(f"H by a constant instead, at weight {WEIGHT}\n\n{constants}")


def read(folder: Path) -> dict[str, list[Cut]]:
    """The cuts of each host family in a comparison's folder.

    Raises:
        InputError: it has no validation runs of +D³ with both host and student.
    """
    cuts: dict[str, list[Cut]] = defaultdict(list)
    for path in sorted((folder / "runs").glob("*-validation-d3.npz")):
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        identity = json.loads(str(arrays["facts"]))["identity"]
        if "host_scores" not in arrays or "student_scores" not in arrays:
            raise InputError(
                f"{path} has no scores of host and student apart: it is of another "
                "final_classifier than 'both', or of an older version"
            )
        host = log_softmax(arrays["host_scores"].astype(np.float64), axis=2)
        student = np.broadcast_to(arrays["student_scores"].astype(np.float64), host.shape)
        cut = Cut(host, student, arrays["labels"], arrays["seen_classes"], arrays["unseen_classes"])
        cuts[identity["adapter"]].append(cut)
    if not cuts:
        raise InputError(f"{folder} has no validation runs of +D³; start its d3 compare first")
    return dict(cuts)


def weight_table(cuts: dict[str, dict[str, list[Cut]]]) -> str:
    """Mean AUSUC over cuts and draws: weight 0 is the host's classifier."""
    return _table(cuts, WEIGHTS, lambda cut, weight: [m.ausuc for m in cut.metrics(weight, 0.0)])


def rule_table(cuts: dict[str, dict[str, list[Cut]]]) -> str:
    """Mean AUSUC over cuts and draws."""
    return _table(cuts, tuple(RULES), lambda cut, rule: cut.ausuc(RULES[rule](cut)))


def pair_table(cuts: dict[str, dict[str, list[Cut]]]) -> str:
    """Mean H over cuts and draws, by weight and offset in units of log S."""
    pairs = {f"{weight:g}, {offset:g} log S": (weight, offset) for weight, offset in PAIRS}

    def harmonic(cut: Cut, column: str) -> list[float]:
        weight, offset = pairs[column]
        return [m.harmonic for m in cut.metrics(weight, by_classes(cut, offset))]

    return _table(cuts, tuple(pairs), harmonic)


def _table(
    cuts: dict[str, dict[str, list[Cut]]],
    columns: tuple[Any, ...],
    measure: Callable[[Cut, Any], list[float]],
) -> str:
    rows = [["", *_titles(columns)]]
    for data, families in cuts.items():
        for adapter, each in families.items():
            made = ([v for cut in each for v in measure(cut, column)] for column in columns)
            rows.append([f"{adapter}, {data}", *map(mean_cell, made)])
    return aligned(rows)


def _titles(columns: tuple[Any, ...]) -> list[str]:
    return [column if isinstance(column, str) else f"{column:g}" for column in columns]


def mean_cell(values: list[float]) -> str:
    return cell({"mean": float(np.mean(values)), "half_width": None})


RULES: dict[str, Callable[[Cut], npt.NDArray[np.float64]]] = {
    "host": lambda cut: cut.host,
    "student": lambda cut: cut.student,
    "weighted sum": lambda cut: cut.host + WEIGHT * cut.student,
    "mean of probabilities": lambda cut: np.logaddexp(cut.host, cut.student),
}
"""Scores (draws, N, C) of a cut, by what they are made of."""


def offset_table(
    cuts: dict[str, dict[str, list[Cut]]],
    offsets: tuple[float, ...],
    of: Callable[[Cut, float], float],
) -> str:
    """Mean H over families, cuts and draws."""
    rows = [["", *_titles(offsets)]]
    for data, families in cuts.items():
        each = [cut for family in families.values() for cut in family]
        made = ([m.harmonic for c in each for m in c.metrics(WEIGHT, of(c, o))] for o in offsets)
        rows.append([data, *map(mean_cell, made)])
    return aligned(rows)


def by_classes(cut: Cut, offset: float) -> float:
    return offset * float(np.log(len(cut.seen)))


def constant(cut: Cut, offset: float) -> float:
    return offset


if __name__ == "__main__":
    main()
