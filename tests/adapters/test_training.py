"""What the three baselines share: settings, loop, states, GAN and softmax parts; nothing of D³."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import d3_adapters
import d3_plugin
from d3_adapters.diffusion import DiffusionSettings, DiffusionTrainer
from d3_adapters.fclswgan import FCLSWGANSettings, FCLSWGANTrainer
from d3_adapters.gan import gradient_penalty
from d3_adapters.tfvaegan import TFVAEGANSettings, TFVAEGANTrainer
from d3_adapters.training import Trainer
from d3_plugin import D3Settings
from d3_plugin.data import GZSLData
from d3_plugin.evaluation.softmax import train_softmax

D3_SMALL = D3Settings(embedding_dim=8, teacher_epochs=2, weight=0.0)
# 80 training rows: two steps a pass, so TF-VAEGAN's steps 3 and 4 are with feedback.
SIZE: dict[str, Any] = {"steps": 4, "batch_size": 40, "hidden": 16, "synthetic_per_class": 10}
FAMILIES = pytest.mark.parametrize(
    ("make", "settings"),
    [
        (FCLSWGANTrainer, FCLSWGANSettings(**SIZE)),
        (TFVAEGANTrainer, TFVAEGANSettings(**SIZE)),
        (DiffusionTrainer, DiffusionSettings(**SIZE)),
    ],
    ids=["fclswgan", "tfvaegan", "diffusion"],
)


def test_trainers_import_nothing_of_d3_but_types_checks_and_the_softmax() -> None:
    allowed = {f"d3_plugin.{name}" for name in ("data", "checks", "errors", "evaluation.softmax")}
    files = [f for f in Path(d3_adapters.__file__).parent.rglob("*.py") if f.name != "hooks.py"]
    assert len(files) > 10
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                modules = [getattr(node, "module", None), *(alias.name for alias in node.names)]
                ours = [m for m in modules if m and m.startswith("d3_plugin")]
                assert set(ours) <= allowed, file.name


def values_of(trainer: Trainer) -> list[torch.Tensor]:
    networks = (getattr(trainer, name) for name in trainer.parts if "optimizer" not in name)
    return [p for network in networks for p in network.parameters()]


@FAMILIES
def test_same_seed_same_run(toy_data: GZSLData, make: Any, settings: Any) -> None:
    trainers = [make(toy_data, settings, seed=seed) for seed in (3, 3, 4)]
    for trainer in trainers:
        torch.manual_seed(3)
        trainer.fit()
    one, same, other = map(values_of, trainers)
    assert all(map(torch.equal, one, same))
    assert not all(map(torch.equal, one, other))
    assert trainers[0].history == trainers[1].history
    assert [entry["step"] for entry in trainers[0].history] == [1, 2, 3, 4]
    assert all(torch.isfinite(torch.tensor(list(e.values()))).all() for e in trainers[0].history)


@FAMILIES
def test_weight_zero_leaves_the_baseline_bit_identical(
    toy_data: GZSLData, make: Any, settings: Any
) -> None:
    alone = make(toy_data, settings, seed=1)
    alone.fit()
    after = torch.get_rng_state()
    beside = make(toy_data, settings, seed=1)
    d3 = d3_plugin.attach(beside, settings=D3_SMALL)
    beside.fit()
    assert d3.steps > 0
    assert torch.equal(after, torch.get_rng_state())
    assert alone.history == beside.history
    assert all(map(torch.equal, values_of(alone), values_of(beside)))


@FAMILIES
def test_flags_are_back_after_training(toy_data: GZSLData, make: Any, settings: Any) -> None:
    trainer = make(toy_data, settings)
    before = [p.requires_grad for p in values_of(trainer)]
    trainer.fit()
    assert [p.requires_grad for p in values_of(trainer)] == before
    assert any(before)


@FAMILIES
def test_state_of_another_trainer_is_refused(toy_data: GZSLData, make: Any, settings: Any) -> None:
    trainer = make(toy_data, settings)
    state = trainer.state_dict()
    del state["generator"], state["history"]
    with pytest.raises(ValueError, match=f"{make.__name__}: it lacks generator, history"):
        trainer.load_state_dict(state)


@FAMILIES
def test_settings_must_be_above_zero(make: Any, settings: Any) -> None:
    with pytest.raises(ValueError, match=r"(?s)Settings: 3 problems.*steps.*lr.*hidden"):
        replace(settings, hidden=0, steps=-1, lr=0.0)


class Counting(Trainer):
    """Its losses in step k are k and k²."""

    losses = ("one", "two")
    parts = ()

    def step(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tensor(float(number)), torch.tensor(float(number**2))


def test_fit_keeps_mean_losses_of_every_twentieth_part(toy_data: GZSLData) -> None:
    trainer = Counting(toy_data, FCLSWGANSettings(steps=47), 0, "cpu")
    told: list[tuple[int, dict[str, float]]] = []
    trainer.fit(lambda step, losses: told.append((step, losses)), start=40)
    assert told == [
        (42, {"one": 41.5, "two": (41**2 + 42**2) / 2}),
        (44, {"one": 43.5, "two": (43**2 + 44**2) / 2}),
        (46, {"one": 45.5, "two": (45**2 + 46**2) / 2}),
    ]
    assert trainer.history == [{"step": step, **losses} for step, losses in told]


def test_gradient_penalty_is_zero_for_a_unit_slope(toy_data: GZSLData) -> None:
    """A critic with slope 1 in the features pays nothing, one with slope 3 pays (3 - 1)²."""
    slope = torch.zeros(toy_data.feature_dim)
    real, attributes = toy_data.train_features[:8], toy_data.attributes[toy_data.train_labels[:8]]
    for size, penalty in ((3.0, 4.0), (1.0, 0.0)):
        slope[0] = size
        found = gradient_penalty(lambda f, a: f @ slope[:, None], real, real + 1, attributes)
        assert found.item() == pytest.approx(penalty)


def test_softmax_learns_separable_classes() -> None:
    torch.manual_seed(0)
    features = torch.eye(3).repeat(50, 1)
    labels = torch.arange(3).repeat(50)
    classifier = train_softmax(features, labels, 4, epochs=60, batch_size=10)
    assert torch.equal(classifier(features).argmax(dim=1), labels)
    assert not classifier.weight.requires_grad
