"""What a report shows beside the table: classes, confusions, the teacher's score, features."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from d3_plugin.experiments.run import Outcome


VARIANTS = ("baseline", "d3")
MISTAKES = 12
"""How many pairs of a true and a predicted class are listed."""


def details(tests: Mapping[str, Sequence[Outcome]]) -> dict[str, Any]:
    """Everything of one adapter, as JSON types.

    Args:
        tests: test runs of :data:`VARIANTS`, in the order of their seeds.

    Returns:
        ``classes``: accuracy on each class; ``confusion``: shares of seen and unseen rows
        classified as seen; ``mistakes``: which classes unseen rows are taken for; ``teacher``:
        histogram of its score, or None; ``projection``: of the first seed, or None.
    """
    return {
        "classes": _classes(tests),
        "confusion": {variant: _confusion(tests[variant]) for variant in VARIANTS},
        "mistakes": _mistakes(tests),
        "teacher": _teacher(tests["d3"]),
        "projection": _projection(*(tests[variant][0] for variant in VARIANTS)),
    }


def _classes(tests: Mapping[str, Sequence[Outcome]]) -> list[dict[str, Any]]:
    """One entry per class, or two where it is seen for some seeds and unseen for others."""
    found: dict[tuple[bool, int, str], dict[str, list[float]]] = defaultdict(
        lambda: {variant: [] for variant in VARIANTS}
    )
    for variant, outcome, label, unseen, predicted in _predictions(tests):
        found[unseen, label, _name(outcome, label)][variant].append((predicted == label).mean())
    return [
        {"class": label, "name": name, "unseen": unseen, "seeds": len(of_class["d3"])}
        | {variant: round(float(np.mean(of_class[variant])), 4) for variant in VARIANTS}
        for (unseen, label, name), of_class in sorted(found.items())
    ]


def _predictions(
    tests: Mapping[str, Sequence[Outcome]],
) -> Iterator[tuple[str, Outcome, int, bool, npt.NDArray[np.int64]]]:
    """Each variant, run and class: its id, whether it is unseen, predictions (draws, rows)."""
    for variant in VARIANTS:
        for outcome in tests[variant]:
            evaluation = outcome.evaluation
            predicted = evaluation.scores.argmax(axis=2)
            for label in np.unique(evaluation.labels).tolist():
                unseen = label in evaluation.unseen_classes
                yield variant, outcome, label, unseen, predicted[:, evaluation.labels == label]


def _confusion(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Shares of seen and of unseen rows that are classified as a seen class, mean over seeds."""
    shares = []
    for evaluation in (outcome.evaluation for outcome in outcomes):
        as_seen = np.isin(evaluation.scores.argmax(axis=2), evaluation.seen_classes)
        is_seen = np.isin(evaluation.labels, evaluation.seen_classes)
        shares.append([as_seen[:, is_seen].mean(), as_seen[:, ~is_seen].mean()])
    seen, unseen = np.mean(shares, axis=0)
    return {"seen_as_seen": round(float(seen), 4), "unseen_as_seen": round(float(unseen), 4)}


def _mistakes(tests: Mapping[str, Sequence[Outcome]]) -> list[dict[str, Any]]:
    """The most frequent classes that rows of an unseen class are taken for.

    Shares of its rows, mean over the seeds for which it is unseen.
    """
    seeds: Counter[tuple[str, str]] = Counter()
    shares: dict[tuple[str, str, bool], dict[str, float]] = defaultdict(
        lambda: dict.fromkeys(VARIANTS, 0.0)
    )
    for variant, outcome, label, unseen, predicted in _predictions(tests):
        if unseen:
            name = _name(outcome, label)
            seeds[name, variant] += 1
            others, counts = np.unique(predicted[predicted != label], return_counts=True)
            for other, count in zip(others, counts, strict=True):
                key = name, _name(outcome, other), other in outcome.evaluation.unseen_classes
                shares[key][variant] += count / predicted.size
    found: list[dict[str, Any]] = [
        {"class": name, "taken_for": other, "unseen": unseen}
        | {v: round(float(of_pair[v]) / seeds[name, v], 4) for v in VARIANTS}
        for (name, other, unseen), of_pair in shares.items()
    ]
    found.sort(key=lambda each: (-each["baseline"] - each["d3"], *each.values()))
    return found[:MISTAKES]


def _teacher(outcomes: Sequence[Outcome]) -> dict[str, Any] | None:
    """Shares of the seen and of the unseen test rows in 40 bins of the in-distribution score."""
    scored = [o.evaluation for o in outcomes if o.evaluation.teacher_score is not None]
    if not scored:
        return None
    score = np.concatenate([np.asarray(each.teacher_score) for each in scored])
    is_seen = np.concatenate([np.isin(each.labels, each.seen_classes) for each in scored])
    edges = np.histogram_bin_edges(score, bins=40)
    bars = {
        domain: (np.histogram(score[rows], edges)[0] / max(rows.sum(), 1)).round(5).tolist()
        for domain, rows in (("seen", is_seen), ("unseen", ~is_seen))
    }
    return {"edges": edges.tolist(), **bars}


def _projection(baseline: Outcome, d3: Outcome) -> dict[str, Any] | None:
    one, other = baseline.projection, d3.projection
    if one is None or other is None:
        return None

    def known(of_classes: list[Any]) -> list[Any]:
        """Without the rows of a generator that diverged."""
        return [[pair for pair in rows if np.isfinite(pair).all()] for rows in of_classes]

    return {
        "seed": d3.run.seed,
        "classes": [
            {"name": _name(d3, label), "unseen": bool(label in d3.evaluation.unseen_classes)}
            for label in other["classes"]
        ],
        "real": other["real"],
        "baseline": known(one["synthetic"]),
        "d3": known(other["synthetic"]),
    }


def _name(outcome: Outcome, label: int) -> str:
    return outcome.class_names[label] if outcome.class_names else str(label)
