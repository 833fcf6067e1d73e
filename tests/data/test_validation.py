"""Validation problems cut from the training rows."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from d3_plugin.data import GZSLData, load_digits_gzsl, pseudo_unseen, without_test_rows
from d3_plugin.errors import D3Warning, InputError

PARTS = ("train", "test_seen", "test_unseen")


def make(rows_per_class: tuple[int, ...] = (10, 10, 10, 10), num_classes: int = 8) -> GZSLData:
    """Odd classes are seen; every feature row and attribute row names its class and is unique."""
    seen = torch.arange(len(rows_per_class)) * 2 + 1
    unseen = torch.tensor([c for c in range(num_classes) if c not in seen.tolist()])
    train_labels = torch.repeat_interleave(seen, torch.tensor(rows_per_class))

    def features(labels: torch.Tensor, part: int) -> torch.Tensor:
        serial = torch.arange(len(labels))
        return torch.stack((labels, serial, torch.full_like(labels, part)), dim=1).float() * 100

    return GZSLData(
        name="toy",
        train_features=features(train_labels, 0),
        train_labels=train_labels,
        test_seen_features=features(seen, 1),
        test_seen_labels=seen,
        test_unseen_features=features(unseen, 2),
        test_unseen_labels=unseen,
        attributes=torch.arange(num_classes).float()[:, None].repeat(1, 2),
        seen_classes=seen,
        unseen_classes=unseen,
        class_names=tuple(f"class {c}" for c in range(num_classes)),
    )


def all_features(data: GZSLData) -> torch.Tensor:
    return torch.cat([getattr(data, f"{part}_features") for part in PARTS])


def test_rows_are_the_training_rows_once() -> None:
    data = make()
    cut = pseudo_unseen(data)
    assert sorted(all_features(cut).tolist()) == sorted(data.train_features.tolist())


@pytest.mark.parametrize("seed", range(5))
def test_classes_keep_their_rows_attributes_and_names(seed: int) -> None:
    cut = pseudo_unseen(make(), seed=seed)
    assert cut.name == f"toy-val{seed}"
    assert cut.num_classes == 4
    assert sorted([*cut.seen_classes.tolist(), *cut.unseen_classes.tolist()]) == [0, 1, 2, 3]
    assert cut.class_names == ("class 1", "class 3", "class 5", "class 7")
    assert cut.attributes[:, 0].tolist() == [1, 3, 5, 7]
    for part in PARTS:
        features, labels = getattr(cut, f"{part}_features"), getattr(cut, f"{part}_labels")
        assert features[:, 0].tolist() == (100 * (2 * labels + 1)).tolist()  # raw, not scaled


@pytest.mark.parametrize(
    ("num_seen", "fraction", "num_unseen"),
    [(4, 0.25, 1), (4, 0.5, 2), (4, 0.01, 1), (4, 0.99, 3), (3, 0.25, 1), (10, 0.33, 3)],
)
def test_number_of_unseen_classes(num_seen: int, fraction: float, num_unseen: int) -> None:
    cut = pseudo_unseen(make((5,) * num_seen, 2 * num_seen), fraction)
    assert len(cut.unseen_classes) == num_unseen
    assert len(cut.seen_classes) == num_seen - num_unseen


def test_a_fifth_of_every_seen_class_is_held_out() -> None:
    rows = (2, 3, 10, 50)
    cut = pseudo_unseen(make(rows), fraction=0.01, seed=1)
    held_out = {0: 1, 1: 1, 2: 2, 3: 10}
    assert len(cut.seen_classes) == 3
    for c in cut.seen_classes.tolist():
        assert int((cut.test_seen_labels == c).sum()) == held_out[c]
        assert int((cut.train_labels == c).sum()) == rows[c] - held_out[c]
    (u,) = cut.unseen_classes.tolist()
    assert len(cut.test_unseen_labels) == rows[u]


def test_seed_decides_and_global_generators_stay() -> None:
    data = load_digits_gzsl()
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]  # noqa: NPY002
    first, again = pseudo_unseen(data, seed=4), pseudo_unseen(data, seed=4)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # type: ignore[index]  # noqa: NPY002
    assert torch.equal(all_features(first), all_features(again))
    assert torch.equal(first.unseen_classes, again.unseen_classes)
    chosen = {tuple(pseudo_unseen(data, seed=s).unseen_classes.tolist()) for s in range(20)}
    assert len(chosen) >= 5  # of the 15 pairs of 6 seen digits


def test_repeats_on_a_problem_it_made() -> None:
    cut = pseudo_unseen(pseudo_unseen(load_digits_gzsl()), seed=1)
    assert cut.name == "digits-0-val0-val1"
    assert cut.num_classes == 4


@pytest.mark.parametrize("fraction", [-0.1, 1.1, 2.0, float("nan")])
def test_bad_fraction(fraction: float) -> None:
    with pytest.raises(InputError, match="fraction must be a finite number, 0 to 1"):
        pseudo_unseen(make(), fraction)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5])
def test_bad_seed(seed: int) -> None:
    with pytest.raises(InputError, match="seed must be an int, 0"):
        pseudo_unseen(make(), seed=seed)


def test_too_few_seen_classes() -> None:
    with pytest.raises(InputError, match="'toy': 2 seen classes with 2 training"):
        pseudo_unseen(make((5, 5)))


@pytest.mark.parametrize("seed", range(4))
def test_classes_with_one_row_are_left_out(seed: int) -> None:
    with pytest.warns(
        D3Warning, match=r"2 classes \(class 3, class 9\) with one training row are left"
    ):
        cut = pseudo_unseen(make((5, 1, 5, 5, 1), 10), seed=seed)
    assert cut.class_names == ("class 1", "class 5", "class 7")
    assert sorted(cut.attributes[:, 0].tolist()) == [1, 5, 7]
    assert len(all_features(cut)) == 15
    with pytest.raises(InputError, match="2 seen classes with 2 training rows"):
        pseudo_unseen(make((5, 1, 5, 1)), seed=seed)


def test_scaling_before_is_not_needed() -> None:
    data = make()
    shifted = replace(data, train_features=data.train_features + 1e6)
    cut, moved = pseudo_unseen(data), pseudo_unseen(shifted)
    assert torch.equal(all_features(cut) + 1e6, all_features(moved))


def test_nothing_of_the_test_rows_is_left() -> None:
    data = make()
    bare = without_test_rows(data)
    for part in PARTS[1:]:
        assert not getattr(bare, f"{part}_features").any()
        assert len(getattr(bare, f"{part}_labels")) == len(getattr(bare, f"{part[5:]}_classes"))
    assert torch.equal(bare.train_features, data.train_features)
    one, other = pseudo_unseen(data, seed=3), pseudo_unseen(bare, seed=3)
    for field in fields(GZSLData):
        values = [getattr(cut, field.name) for cut in (one, other)]
        if isinstance(values[0], torch.Tensor):
            assert torch.equal(*values), field.name
        else:
            assert values[0] == values[1]
