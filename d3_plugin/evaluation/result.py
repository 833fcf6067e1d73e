"""The result of ``evaluate()``."""

from __future__ import annotations

import html
from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from d3_plugin.evaluation.metrics import GZSLMetrics, Ints, gzsl_metrics


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """One classifier, or its draws, on the test rows (seen rows first, then unseen ones).

    Attributes:
        metrics: means over the draws; ``U``, ``S``, ``H`` and ``ausuc`` are short for its fields.
        scores: (draws, N, C) float32 scores over all classes: those of the host's classifier, or
            log-probabilities of the student or of the ensemble, minus the offset.
        labels: (N,) class ids.
        seen_classes, unseen_classes: int64 class ids.
        host_scores: those of the host's final classifier alone; equal to ``scores`` without D³,
            None if the student classifies alone.
        student_scores: (N, C) log-probabilities of the student; None if the host classifies alone.
        prior: (C,) share of each class in the final classifier's training rows; None if the
            student classifies alone.
        teacher_score: (N,) in-distribution score of the teacher, higher = more like seen data;
            None without D³.
        teacher_auroc: AUROC of that score for seen against unseen test rows.
        classifier: what was scored, in words.
    """

    metrics: GZSLMetrics
    scores: npt.NDArray[np.floating]
    labels: Ints
    seen_classes: Ints
    unseen_classes: Ints
    host_scores: npt.NDArray[np.float32] | None = None
    prior: npt.NDArray[np.float64] | None = None
    teacher_score: npt.NDArray[np.float64] | None = None
    teacher_auroc: float | None = None
    student_scores: npt.NDArray[np.float32] | None = None
    classifier: str = ""

    @property
    def U(self) -> float:  # noqa: N802 - the field's names
        return self.metrics.unseen

    @property
    def S(self) -> float:  # noqa: N802
        return self.metrics.seen

    @property
    def H(self) -> float:  # noqa: N802
        return self.metrics.harmonic

    @property
    def ausuc(self) -> float:
        return self.metrics.ausuc

    def __str__(self) -> str:
        text = "  ".join(f"{name} {value:.1%}" for name, value in self._figures().items())
        return f"{text}  [{self.classifier}]" if self.classifier else text

    def __repr__(self) -> str:
        return f"Evaluation({self})"

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        figures = self._figures()
        heads = "".join(f"<th>{name}</th>" for name in figures)
        cells = "".join(f"<td>{value:.1%}</td>" for value in figures.values())
        caption = f"<caption>{html.escape(self.classifier)}</caption>"
        return f"<table>{caption}<tr>{heads}</tr><tr>{cells}</tr></table>"

    def metrics_of(self, scores: npt.NDArray[np.floating]) -> GZSLMetrics:
        """Means over the draws of other scores (draws, N, C) of the same rows."""
        return mean_metrics(scores, self.labels, self.seen_classes, self.unseen_classes)

    def _figures(self) -> dict[str, float]:
        m = self.metrics
        figures = {"U": m.unseen, "S": m.seen, "H": m.harmonic, "ZSL": m.zsl, "AUSUC": m.ausuc}
        return figures if self.teacher_auroc is None else {**figures, "teacher": self.teacher_auroc}

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold: metrics by name, ``teacher_auroc``, ``classifier``, ``draws``."""
        more = {"teacher_auroc": self.teacher_auroc, "classifier": self.classifier}
        return {**asdict(self.metrics), **more, "draws": len(self.scores)}


def mean_metrics(
    scores: npt.NDArray[np.floating], labels: Ints, seen_classes: Ints, unseen_classes: Ints
) -> GZSLMetrics:
    """Means of each metric over draws (draws, N, C); the mean of H is not the H of the means."""
    classes = seen_classes, unseen_classes
    draws = [astuple(gzsl_metrics(draw.astype(np.float64), labels, *classes)) for draw in scores]
    return GZSLMetrics(*np.mean(draws, axis=0).tolist())
