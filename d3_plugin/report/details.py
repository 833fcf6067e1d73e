"""What a report shows beside the table: classes, confusions, the teacher's score, features."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from d3_plugin.evaluation.metrics import Ints
from d3_plugin.report.rows import FinishedRun, headline
from d3_plugin.report.statistics import Scored

COMPARED = ("baseline", "headline")
MISTAKES = 12
"""How many pairs of a true and a predicted class are listed."""

Compared = Mapping[str, Sequence[Scored]]
"""The baseline and the headline, seed by seed."""


def details(scored: Mapping[str, Sequence[Scored]]) -> dict[str, Any]:
    """Everything of one adapter, as JSON types.

    Args:
        scored: each row's scores, seed by seed, by its key.

    Returns:
        ``row``: key of the headline, which all but the teacher and the projection are of;
        ``classes``: accuracy on each class; ``confusion``: shares of seen and unseen rows
        classified as seen; ``mistakes``: which classes unseen rows are taken for; ``teacher``:
        histogram of its score, or None; ``projection``: of the first seed, or None.
    """
    row = headline(scored)
    compared = {"baseline": scored["baseline"], "headline": scored[row]}
    return {
        "row": row,
        "classes": _classes(compared),
        "confusion": {name: _confusion(compared[name]) for name in COMPARED},
        "mistakes": _mistakes(compared),
        "teacher": _teacher(scored["d3"]),
        "projection": _projection(scored["baseline"][0].run, scored["d3"][0].run),
    }


def _classes(compared: Compared) -> list[dict[str, Any]]:
    """One entry per class, or two where it is seen for some seeds and unseen for others."""
    found: dict[tuple[bool, int, str], dict[str, list[float]]] = defaultdict(
        lambda: {name: [] for name in COMPARED}
    )
    for which, run, label, unseen, predicted in _predictions(compared):
        found[unseen, label, _name(run, label)][which].append((predicted == label).mean())
    return [
        {"class": label, "name": name, "unseen": unseen, "seeds": len(of_class["baseline"])}
        | {which: round(float(np.mean(of_class[which])), 4) for which in COMPARED}
        for (unseen, label, name), of_class in sorted(found.items())
    ]


def _predictions(compared: Compared) -> Iterator[tuple[str, FinishedRun, int, bool, Ints]]:
    """Each row, run and class: its id, whether it is unseen, predictions (draws, rows)."""
    for which in COMPARED:
        for scored in compared[which]:
            test = scored.run.evaluation
            for label in np.unique(test.labels).tolist():
                unseen = label in test.unseen_classes
                yield which, scored.run, label, unseen, scored.predicted[:, test.labels == label]


def _confusion(scored: Sequence[Scored]) -> dict[str, float]:
    """Shares of seen and of unseen rows that are classified as a seen class, mean over seeds."""
    shares = []
    for each in scored:
        test = each.run.evaluation
        as_seen = np.isin(each.predicted, test.seen_classes)
        is_seen = np.isin(test.labels, test.seen_classes)
        shares.append([as_seen[:, is_seen].mean(), as_seen[:, ~is_seen].mean()])
    seen, unseen = np.mean(shares, axis=0)
    return {"seen_as_seen": round(float(seen), 4), "unseen_as_seen": round(float(unseen), 4)}


def _mistakes(compared: Compared) -> list[dict[str, Any]]:
    """The most frequent classes that rows of an unseen class are taken for.

    Shares of its rows, mean over the seeds for which it is unseen.
    """
    seeds: Counter[tuple[str, str]] = Counter()
    shares: dict[tuple[str, str, bool], dict[str, float]] = defaultdict(
        lambda: dict.fromkeys(COMPARED, 0.0)
    )
    for which, run, label, unseen, predicted in _predictions(compared):
        if unseen:
            name = _name(run, label)
            seeds[name, which] += 1
            others, counts = np.unique(predicted[predicted != label], return_counts=True)
            for other, count in zip(others, counts, strict=True):
                key = name, _name(run, other), bool(other in run.evaluation.unseen_classes)
                shares[key][which] += count / predicted.size
    found: list[dict[str, Any]] = [
        {"class": name, "taken_for": other, "unseen": unseen}
        | {which: round(float(of_pair[which]) / seeds[name, which], 4) for which in COMPARED}
        for (name, other, unseen), of_pair in shares.items()
    ]
    found.sort(key=lambda each: (each["class"], each["taken_for"], each["unseen"]))
    found.sort(key=lambda each: each["baseline"] + each["headline"], reverse=True)
    return found[:MISTAKES]


def _teacher(scored: Sequence[Scored]) -> dict[str, Any] | None:
    """Shares of the seen and of the unseen test rows in 40 bins of the in-distribution score."""
    tests = [s.run.evaluation for s in scored if s.run.evaluation.teacher_score is not None]
    if not tests:
        return None
    score = np.concatenate([np.asarray(each.teacher_score) for each in tests])
    is_seen = np.concatenate([np.isin(each.labels, each.seen_classes) for each in tests])
    edges = np.histogram_bin_edges(score, bins=40)
    bars = {
        domain: (np.histogram(score[rows], edges)[0] / max(rows.sum(), 1)).round(5).tolist()
        for domain, rows in (("seen", is_seen), ("unseen", ~is_seen))
    }
    return {"edges": edges.tolist(), **bars}


def _projection(baseline: FinishedRun, d3: FinishedRun) -> dict[str, Any] | None:
    """Real rows and what each generator makes; only the baseline's if D³ left it as it is."""
    one, other = baseline.record.projection, d3.record.projection
    if one is None or other is None:
        return None
    generators = {  # without the rows of one that diverged
        name: [[pair for pair in rows if np.isfinite(pair).all()] for rows in made["synthetic"]]
        for name, made in (("baseline", one), ("d3", other))
    }
    if generators["d3"] == generators["baseline"]:
        del generators["d3"]
    return {
        "seed": d3.seed,
        "classes": [
            {"name": _name(d3, label), "unseen": bool(label in d3.evaluation.unseen_classes)}
            for label in other["classes"]
        ],
        "real": other["real"],
        "synthetic": generators,
    }


def _name(run: FinishedRun, label: int) -> str:
    names = run.record.class_names
    name = names[label] if names else str(label)
    return name.encode(errors="replace").decode()  # half a character cannot be written
