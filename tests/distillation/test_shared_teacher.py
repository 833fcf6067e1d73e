"""A teacher of the same rows, options and random state is trained once in a process."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from d3_plugin.distillation import teacher as module
from d3_plugin.distillation.networks import EmbeddingClassifier
from d3_plugin.distillation.teacher import pretrain_teacher
from tests.toys import SMALL, ScriptHost, attach, toy_problem

FEATURES, LABELS = torch.rand(30, 5), torch.arange(30) % 3


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows with every training."""
    made: list[str] = []
    train = module._train

    def counted(*args: object) -> object:
        made.append("trained")
        return train(*args)

    monkeypatch.setattr(module, "_train", counted)
    return made


def pretrained(seed: int = 0, **changes: object) -> tuple[EmbeddingClassifier, list[float]]:
    given = {"features": FEATURES, "labels": LABELS, "num_seen": 3, "embedding_dim": 4}
    losses: list[float] = []
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    report = {"max_epochs": 2, "on_epoch": lambda epoch, loss: losses.append(loss)}
    return pretrain_teacher(**given | report | changes), losses


def weights(teacher: EmbeddingClassifier) -> Tensor:
    return torch.cat([p.flatten() for p in teacher.parameters()])


def drawn() -> list[float]:
    return [torch.rand(()).item(), np.random.random(), random.random()]  # noqa: NPY002


def test_the_second_call_gives_the_same_teacher_losses_and_stream(trainings: list[str]) -> None:
    first, losses = pretrained()
    after = drawn()
    second, again = pretrained()
    assert drawn() == after
    assert torch.equal(weights(first), weights(second))
    assert losses == again
    assert len(losses) == 2
    assert not any(p.requires_grad for p in second.parameters())
    assert not second.training
    assert trainings == ["trained"]


def test_each_caller_has_a_copy() -> None:
    expected = weights(pretrained()[0]).clone()
    for _ in range(2):
        with torch.no_grad():
            pretrained()[0].classify.weight.zero_()
    assert torch.equal(weights(pretrained()[0]), expected)


@pytest.mark.parametrize(
    "change",
    [
        {"features": FEATURES + 1e-6},
        {"features": FEATURES.double()},
        {"labels": LABELS.flip(0)},
        {"num_seen": 4},
        {"embedding_dim": 5},
        {"lr": 2e-3},
        {"max_epochs": 3},
        {"patience": 4},
        {"seed": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_rows_options_or_streams_train_again(
    trainings: list[str], change: dict[str, object]
) -> None:
    pretrained()
    pretrained(**change)
    assert len(trainings) == 2


def test_rows_changed_in_place_train_again(trainings: list[str]) -> None:
    features = FEATURES.clone()
    pretrained(features=features)
    features[0, 0] += 1
    pretrained(features=features)
    assert len(trainings) == 2


def test_memory_is_bounded_and_the_latest_are_kept(
    trainings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_KEPT", 2 * 4 * len(weights(pretrained()[0])))
    for seed in (1, 0, 2, 0):  # two fit: 2 takes the place of 1
        pretrained(seed)
    assert len(trainings) == 3
    pretrained(1)
    assert len(trainings) == 4


def test_variants_that_differ_in_their_losses_share_a_teacher(trainings: list[str]) -> None:
    few = replace(SMALL, teacher_epochs=2)
    variants = (few, replace(few, od_weight=0.0), replace(few, weight=0.0, student_start="random"))
    first, *others = (
        attach(ScriptHost(toy_problem()), variant).distiller.teacher for variant in variants
    )
    assert len(trainings) == 1
    assert all(torch.equal(weights(first), weights(other)) for other in others)
    attach(ScriptHost(toy_problem()), replace(few, teacher_lr=1e-3))
    assert len(trainings) == 2


def test_a_run_is_the_same_with_and_without_a_teacher_from_before(trainings: list[str]) -> None:
    ends = []
    for _ in range(2):
        host = ScriptHost(toy_problem())
        d3 = attach(host, replace(SMALL, teacher_epochs=2))
        batch = host.data.train_features[:8], host.data.train_labels[:8]
        losses = [d3.loss(*batch).item() for _ in range(3)]
        ends.append((losses, drawn(), weights(d3.distiller.student)))
    assert len(trainings) == 1
    assert ends[0][:2] == ends[1][:2]
    assert torch.equal(ends[0][2], ends[1][2])
