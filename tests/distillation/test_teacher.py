"""pretrain_teacher: what it learns, when it stops, which epoch it keeps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from d3_plugin.distillation.networks import EmbeddingClassifier
from d3_plugin.distillation.teacher import pretrain_teacher
from d3_plugin.errors import InputError


def blobs(rows: int = 120, classes: int = 3, noise: float = 0.3) -> tuple[Tensor, Tensor]:
    """Well separated Gaussian blobs around the unit vectors times 3."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(rows) % classes
    features = 3 * torch.eye(classes, classes + 1)[labels]
    return features + noise * torch.randn(features.shape, generator=generator), labels


def noise_labels(rows: int = 60) -> tuple[Tensor, Tensor]:
    """Labels that features say nothing about: held-back loss rises as training fits them."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(rows, 20, generator=generator)
    return features, torch.randint(3, (rows,), generator=generator)


def train(
    data: tuple[Tensor, Tensor], classes: int = 3, seed: int = 0, **options
) -> tuple[EmbeddingClassifier, list[float]]:
    """The teacher, and the held-back loss of each epoch."""
    losses: list[float] = []

    def note(epoch: int, loss: float) -> None:
        assert epoch == len(losses)
        losses.append(loss)

    torch.manual_seed(seed)
    options = {"embedding_dim": 16, "on_epoch": note} | options
    return pretrain_teacher(*data, classes, **options), losses


def equal_weights(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_learns_separable_classes():
    features, labels = blobs()
    teacher, losses = train((features, labels), lr=1e-2)
    logits, embedding = teacher(features)
    assert (logits.argmax(dim=1) == labels).float().mean() > 0.98
    assert embedding.shape == (120, 16)
    assert logits.shape == (120, 3)
    assert min(losses) < 0.2 * losses[0]


def test_best_epoch_is_kept_and_not_the_last():
    """A second run that ends at the best epoch has the very same weights."""
    options = {"lr": 1e-2, "patience": 8, "max_epochs": 40}
    teacher, losses = train(noise_labels(), **options)
    best = losses.index(min(losses))
    assert best < len(losses) - 1
    until_best, losses_until_best = train(noise_labels(), **options | {"max_epochs": best + 1})
    assert losses_until_best == losses[: best + 1]
    assert equal_weights(teacher, until_best)


@pytest.mark.parametrize("patience", [1, 3])
def test_stops_when_the_loss_has_not_fallen_for_patience_epochs(patience):
    losses = train(noise_labels(), lr=1e-2, patience=patience, max_epochs=200)[1]
    best = losses.index(min(losses))
    assert len(losses) == best + 1 + patience < 200


def test_stops_after_patience_when_nothing_is_learnt():
    assert len(train(blobs(), lr=0.0, patience=4)[1]) == 5


def test_max_epochs_ends_training_that_still_improves():
    losses = train(blobs(), max_epochs=3)[1]
    assert len(losses) == 3
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize(("rows", "epochs", "steps"), [(20_000, 7, 7 * 282), (150_000, 1, 2000)])
def test_with_many_rows_the_number_of_steps_is_bounded(rows: int, epochs: int, steps: int) -> None:
    made: list[object] = []
    handle = register_optimizer_step_post_hook(lambda *_: made.append(None))
    try:
        losses = train(blobs(rows), max_epochs=50, patience=50, embedding_dim=2)[1]
    finally:
        handle.remove()
    assert (len(losses), len(made)) == (epochs, steps)


def test_is_frozen_and_in_eval_mode():
    teacher, _ = train(blobs(), max_epochs=1)
    assert not teacher.training
    assert not any(module.training for module in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())


def test_equal_seed_equal_teacher():
    first, losses = train(blobs(), max_epochs=3, seed=5)
    second, again = train(blobs(), max_epochs=3, seed=5)
    other, _ = train(blobs(), max_epochs=3, seed=6)
    assert losses == again
    assert equal_weights(first, second)
    assert not equal_weights(first, other)


def test_trains_inside_no_grad_and_without_callback():
    expected, _ = train(blobs(), max_epochs=2)
    with torch.no_grad():
        inside, _ = train(blobs(), max_epochs=2, on_epoch=None)
    assert equal_weights(inside, expected)


def test_inputs_are_left_alone():
    features, labels = blobs()
    before = features.clone(), labels.clone()
    train((features, labels), max_epochs=2)
    assert torch.equal(features, before[0])
    assert torch.equal(labels, before[1])


@pytest.fixture
def split(monkeypatch) -> dict[str, list[int]]:
    """The labels of the rows trained on and held back, in one epoch of training."""
    rows: dict[str, list[int]] = {"train": [], "held back": []}
    cross_entropy = torch.nn.functional.cross_entropy

    def record(logits, target):
        rows["train" if torch.is_grad_enabled() else "held back"] += target.tolist()
        return cross_entropy(logits, target)

    monkeypatch.setattr("d3_plugin.distillation.teacher.F.cross_entropy", record)
    return rows


@pytest.mark.parametrize(
    ("labels", "held_back"),
    [
        ([0] * 10 + [1] * 10 + [2], 3),  # a single row in one class: a random tenth
        (list(range(12)), 2),  # in every class
        (list(range(10)), 1),
        ([0, 1, 2, 3, 4, 5] * 2, 2),  # two rows each: not half of all rows
        ([0] * 10, 1),
        ([0, 2] * 6, 2),  # a class without any row
    ],
    ids=["one single", "all single", "ten single", "pairs", "one class", "gap"],
)
def test_classes_with_few_rows(split, labels, held_back):
    features = torch.randn(len(labels), 4)
    teacher, losses = train((features, torch.tensor(labels)), classes=12, max_epochs=1)
    assert teacher(features)[0].isfinite().all()
    assert len(losses) == 1
    assert len(split["held back"]) == held_back
    assert sorted(split["train"] + split["held back"]) == sorted(labels)


@pytest.mark.parametrize(("classes", "each"), [(45, 3), (2, 100)])
def test_held_back_rows_are_a_stratified_tenth_with_every_class(split, classes, each):
    """45 classes of three rows: a tenth of the 135 rows would leave most classes unchecked."""
    labels = torch.arange(classes * each) % classes
    train((torch.randn(len(labels), 4), labels), classes=classes, max_epochs=1)
    assert sorted(split["held back"]) == sorted([*range(classes)] * max(1, each // 10))


def test_a_teacher_that_diverges_is_refused():
    features, labels = blobs()
    features[0] = float("nan")
    with pytest.raises(InputError, match="teacher_lr"):
        train((features, labels), max_epochs=2)


def test_on_every_device(device):
    features, labels = blobs()
    teacher, _ = train((features.to(device), labels.to(device)), lr=1e-2)
    predicted = teacher(features.to(device))[0].argmax(dim=1)
    assert (predicted.cpu() == labels).float().mean() > 0.98
