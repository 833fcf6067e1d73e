"""The built-in digits, and that their hand-written attributes predict unseen digits."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from d3_plugin.data import GZSLData, load, load_digits_gzsl
from d3_plugin.data.digits import DRAWS
from d3_plugin.errors import DataError, InputError

EVERY_DRAW = pytest.mark.parametrize("draw", range(len(DRAWS)))
RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0)

# Measured with the classifier below: ZSL accuracy (unseen rows among unseen digits; chance 1/4 or
# 1/5) and ten-way accuracy (unseen rows among all ten digits; chance 1/10).
MEASURED = ((0.84, 0.53), (0.82, 0.60), (0.78, 0.56), (0.69, 0.52), (0.64, 0.45), (0.65, 0.48))


def class_means(features: np.ndarray, labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    return np.stack([features[labels == c].mean(axis=0) for c in classes])


def predict_means(
    known: np.ndarray, means: np.ndarray, wanted: np.ndarray, ridge: float
) -> np.ndarray:
    """Ridge regression from attributes to class means, in its dual form, with an intercept."""
    centre, offset = known.mean(axis=0), means.mean(axis=0)
    gram = (known - centre) @ (known - centre).T + ridge * np.eye(len(known))
    return (wanted - centre) @ (known - centre).T @ np.linalg.solve(gram, means - offset) + offset


def per_class_accuracy(
    features: np.ndarray, labels: np.ndarray, means: np.ndarray, classes: np.ndarray
) -> float:
    distance = ((features[:, None] - means[None]) ** 2).sum(axis=-1)
    correct = classes[distance.argmin(axis=1)] == labels
    return float(np.mean([correct[labels == c].mean() for c in np.unique(labels)]))


def choose_ridge(x: np.ndarray, y: np.ndarray, seen: np.ndarray, attributes: np.ndarray) -> float:
    """By leaving out every pair of seen digits in turn: unseen digits play no part."""

    def score(ridge: float) -> float:
        accuracies = []
        for pair in combinations(seen, 2):
            left_out = np.array(pair)
            rest = np.setdiff1d(seen, left_out)
            means = predict_means(
                attributes[rest], class_means(x, y, rest), attributes[left_out], ridge
            )
            rows = np.isin(y, left_out)
            accuracies.append(per_class_accuracy(x[rows], y[rows], means, left_out))
        return float(np.mean(accuracies))

    return max(RIDGES, key=score)


def measure(data: GZSLData) -> tuple[float, float]:
    x, y = data.train_features.double().numpy() / 16, data.train_labels.numpy()
    attributes = data.attributes.double().numpy()
    seen, unseen = data.seen_classes.numpy(), data.unseen_classes.numpy()
    ridge = choose_ridge(x, y, seen, attributes)
    means = predict_means(attributes[seen], class_means(x, y, seen), attributes, ridge)
    test, labels = data.test_unseen_features.double().numpy() / 16, data.test_unseen_labels.numpy()
    zsl = per_class_accuracy(test, labels, means[unseen], unseen)
    return zsl, per_class_accuracy(test, labels, means, np.arange(10))


@EVERY_DRAW
def test_attributes_beat_chance_three_times(draw: int) -> None:
    data = load_digits_gzsl(draw)
    zsl, ten_way = measure(data)
    assert zsl >= 3 / len(data.unseen_classes)
    assert ten_way >= 3 / 10
    assert (zsl, ten_way) == pytest.approx(MEASURED[draw], abs=0.015)


@EVERY_DRAW
def test_shuffled_attributes_do_not_reach_it(draw: int) -> None:
    """The figures come from the attributes: with other digits' rows they are near chance."""
    data = load_digits_gzsl(draw)
    rng = np.random.default_rng(0)
    scores = []
    for _ in range(5):
        wrong = data.attributes[torch.from_numpy(rng.permutation(10))]
        scores.append(measure(replace(data, attributes=wrong))[0])
    assert np.mean(scores) < 1.8 / len(data.unseen_classes)


@EVERY_DRAW
def test_rows_are_the_digits(draw: int) -> None:
    data = load_digits_gzsl(draw)
    images = load_digits()
    assert data.name == f"digits-{draw}"
    assert data.unseen_classes.tolist() == list(DRAWS[draw])
    assert data.seen_classes.tolist() == sorted(set(range(10)) - set(DRAWS[draw]))
    parts = ("train", "test_seen", "test_unseen")
    features = torch.cat([getattr(data, f"{part}_features") for part in parts])
    labels = torch.cat([getattr(data, f"{part}_labels") for part in parts])
    assert features.dtype == torch.float32
    assert labels.dtype == torch.int64
    ours = sorted(map(tuple, torch.cat((features, labels[:, None].float()), dim=1).tolist()))
    theirs = sorted(map(tuple, np.c_[images.data, images.target].tolist()))
    assert ours == theirs  # all 1797 images once, with their labels


@EVERY_DRAW
def test_test_seen_is_a_stratified_fifth(draw: int) -> None:
    data = load_digits_gzsl(draw)
    for c in data.seen_classes.tolist():
        held_out = int((data.test_seen_labels == c).sum())
        total = held_out + int((data.train_labels == c).sum())
        assert abs(held_out - total / 5) <= 1


def test_same_draw_is_the_same_and_draws_differ() -> None:
    first, again = load_digits_gzsl(3), load_digits_gzsl(3)
    assert torch.equal(first.train_features, again.train_features)
    assert torch.equal(first.test_seen_labels, again.test_seen_labels)
    assert len(set(DRAWS)) == len(DRAWS) == 6


@EVERY_DRAW
def test_attribute_table(draw: int) -> None:
    attributes = load_digits_gzsl(draw).attributes
    assert attributes.shape == (10, 13)
    assert set(attributes.unique().tolist()) == {0.0, 0.5, 1.0}
    assert len(attributes.unique(dim=0)) == 10
    unseen = list(DRAWS[draw])
    seen = sorted(set(range(10)) - set(unseen))
    stroke_seen = (attributes[seen] > 0).any(dim=0)
    assert stroke_seen[(attributes[unseen] > 0).any(dim=0)].all()


@pytest.mark.parametrize("draw", [-1, 6, 0.5, 1.0, "0", True])
def test_unknown_draw(draw: int) -> None:
    with pytest.raises(InputError, match=r"draw must be one of 0\.\.5"):
        load_digits_gzsl(draw)


def test_load_by_name() -> None:
    assert load("digits").name == "digits-0"
    assert load("digits-3").name == "digits-3"


@pytest.mark.parametrize(
    "spec", ["digits-6", "digits-", "digits--1", "digit", "", "no/such/folder"]
)
def test_load_unknown(spec: str) -> None:
    with pytest.raises(DataError, match=r"expected 'digits', 'digits-0' to 'digits-5', or an"):
        load(spec)
