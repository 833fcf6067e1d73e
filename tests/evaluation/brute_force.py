"""The GZSL numbers the long way: every offset tried, every class counted in a loop."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

SEEN = np.array([0, 2, 3])
UNSEEN = np.array([1, 4])
few_examples = settings(max_examples=60, deadline=None)
problems = st.tuples(st.integers(0, 10**6), st.integers(5, 40), st.booleans())


def naive_accuracy(labels, predicted, classes):
    per_class = []
    for c in classes:
        hits = [p == c for y, p in zip(labels, predicted, strict=True) if y == c]
        per_class.append(sum(hits) / len(hits))
    return sum(per_class) / len(per_class)


def naive_harmonic(u, s):
    return 0.0 if u + s == 0 else 2 * u * s / (u + s)


def naive_point(scores, labels, offset):
    """(U, S) after subtracting an offset from the seen columns and predicting again."""
    predicted = []
    for row in scores:
        moved = [v - offset if c in SEEN else v for c, v in enumerate(row)]
        predicted.append(moved.index(max(moved)))
    return (
        naive_accuracy(labels, predicted, UNSEEN),
        naive_accuracy(labels, predicted, SEEN),
    )


def offsets_between_margins(scores):
    """One offset above every row's margin, one between each two, one below all: descending."""
    margins = sorted({max(r[SEEN]) - max(r[UNSEEN]) for r in scores}, reverse=True)
    between = [(a + b) / 2 for a, b in itertools.pairwise(margins)]
    return [margins[0] + 1, *between, margins[-1] - 1]


def naive_curve(scores, labels):
    return [naive_point(scores, labels, offset) for offset in offsets_between_margins(scores)]


def trapezoids(points):
    area = 0.0
    for (u0, s0), (u1, s1) in itertools.pairwise(points):
        area += (s1 - s0) * (u0 + u1) / 2
    return area


def random_rows(seed, rows=30, ties=False):
    """Imbalanced labels of five classes, every class with a row; ties: few distinct margins."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(5), rng.choice(5, rows - 5, p=[0.5, 0.2, 0.1, 0.05, 0.15])])
    scores = rng.normal(size=(rows, 5)) + 1.5 * np.eye(5)[labels]
    scores[:, SEEN] += 0.7
    return (np.round(scores) if ties else scores), labels
