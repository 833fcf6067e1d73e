"""What ``attach`` and ``loss`` take, and what they refuse."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import d3_plugin
from d3_adapters.fclswgan import FCLSWGANSettings, FCLSWGANTrainer
from d3_plugin import D3Settings, HostError, InputError
from d3_plugin.data import GZSLData, load
from tests.toys import SMALL, ScriptHost, attach


def test_attach_is_a_function_and_no_module() -> None:
    assert callable(d3_plugin.attach)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("d3_plugin.attach")


# --- refusals of attach


def test_what_is_missing() -> None:
    with pytest.raises(HostError, match=r"generator=.*optimizer=.*data="):
        d3_plugin.attach()


@pytest.mark.parametrize("part", ["generator", "optimizer", "data"])
def test_a_part_is_missing(host: ScriptHost, part: str) -> None:
    with pytest.raises(HostError, match=f"{part}="):
        attach(host, **{part: None})


def test_no_optimizer_in_the_list(host: ScriptHost) -> None:
    with pytest.raises(HostError, match="optimizer="):
        attach(host, optimizer=[])


def test_optimizers_of_an_iterator(host: ScriptHost) -> None:
    d3 = attach(host, optimizer=iter([host.optimizer_g]))
    assert d3.loss().isfinite()


def test_a_generator_without_parameters(host: ScriptHost) -> None:
    with pytest.raises(HostError, match="parameters"):
        attach(host, generator=nn.Module())


def test_unknown_trainer() -> None:
    with pytest.raises(HostError, match=r"dict.*fclswgan.*generator="):
        d3_plugin.attach({})


def test_trainer_and_generator(host: ScriptHost) -> None:
    with pytest.raises(HostError, match="not both"):
        d3_plugin.attach(host, generator=host.net_g)


def test_optimizer_of_another_module(host: ScriptHost) -> None:
    with pytest.raises(HostError, match=r"hidden\.weight"):
        attach(host, optimizer=host.optimizer_d)


def test_a_frozen_layer_need_not_be_in_the_optimizer(host: ScriptHost) -> None:
    host.net_g.hidden.requires_grad_(False)
    optimizer = torch.optim.Adam(p for p in host.net_g.parameters() if p.requires_grad)
    attach(host, optimizer=optimizer).loss().backward()
    assert host.net_g.hidden.weight.grad is None


WRONG: list[tuple[str, Any]] = [
    ("settings", {"weight": 1}),
    ("mode", "magic"),
    ("seed", -1),
    ("gather", "no"),  # which Python takes for true
    ("gather", 1),
    ("labels_are", "global"),
    ("noise_dim", "5"),
    ("noise_dim", 0),
    ("synthesize", "netG"),
    ("modules", 3),
    ("train_classifier", 1),
    ("synthetic_per_class", -3),
    ("synthetic_per_class", 2.5),
    ("plugins", 3),
    ("progress", True),
]


@pytest.mark.parametrize(("option", "value"), WRONG)
def test_an_option_that_is_wrong(host: ScriptHost, option: str, value: Any) -> None:
    lines: list[str] = []
    with pytest.raises(InputError, match=rf"{option} must be .*, got"):
        attach(host, **({"progress": lines.append} | {option: value}))
    assert lines == [], "it fails before the teacher is trained"


def test_every_wrong_option_is_listed(host: ScriptHost) -> None:
    wrong = dict(WRONG)
    with pytest.raises(InputError, match=f"{len(wrong)} problems") as caught:
        attach(host, **wrong)
    for option in wrong:
        assert f"- {option} must be" in str(caught.value)


def test_noise_of_another_width(host: ScriptHost) -> None:
    with pytest.raises(HostError, match=r"noise \(N, 7\).*noise_dim=.*synthesize="):
        attach(host, noise_dim=7)


def test_other_data_than_the_trainers(toy_data: GZSLData) -> None:
    trainer = FCLSWGANTrainer(toy_data, FCLSWGANSettings(hidden=8))
    with pytest.raises(HostError, match=r"digits-0.*toy"):
        d3_plugin.attach(trainer, data=load("digits-0"))
    unscaled = replace(toy_data, train_features=toy_data.train_features * 16)
    with pytest.warns(d3_plugin.D3Warning, match="scaled"):
        d3_plugin.attach(trainer, data=unscaled, settings=SMALL)


def test_settings_list_every_problem() -> None:
    with pytest.raises(InputError, match="4 problems") as error:
        D3Settings(weight=-1, score="best", student_lr=0, temperature=float("nan"))
    for name in ("weight", "score", "student_lr", "temperature"):
        assert f"- {name} must be" in str(error.value)
    assert "max_softmax" in str(error.value), "the choices"


# --- batches given to loss


IDS = torch.tensor([0, 0, 2, 2])


@pytest.mark.parametrize(
    ("features", "labels", "match"),
    [
        (torch.zeros(4, 12), None, "features and labels"),
        (None, IDS, "features and labels"),
        (torch.zeros(4, 12).to_sparse(), IDS, "dense"),
        (torch.zeros(4, 11), IDS, r"\(B, 12\).*got .*\(4, 11\)"),
        (torch.zeros(4, 12, dtype=torch.long), IDS, r"floating features.*int64"),
        (torch.zeros(4, 12, dtype=torch.bool), IDS, r"floating features.*bool"),
        (torch.zeros(4, 12, dtype=torch.complex64), IDS, r"floating features.*complex64"),
        (torch.zeros(4, 12), IDS[:3], r"\(4,\).*\(3,\)"),
        (torch.zeros(4, 12), IDS + 0.5, "whole|integer"),
        (torch.zeros(4, 12), IDS.bool(), "torch.bool"),
        (torch.zeros(4, 12), torch.tensor([0, 1, 2, 3]), "not class_ids"),
        (torch.zeros(4, 12), torch.tensor([0, -1, 2, 3]), "not class_ids"),
    ],
)
def test_bad_batches(
    host: ScriptHost, features: torch.Tensor | None, labels: torch.Tensor | None, match: str
) -> None:
    with pytest.raises(HostError, match=match):
        attach(host).loss(features=features, labels=labels)


def test_shapes_are_checked_in_every_batch(host: ScriptHost) -> None:
    """And nothing else: looking at values would make a GPU wait."""
    d3 = attach(host)
    features, labels = host.data.train_features[::9], host.data.train_labels[::9]
    d3.loss(features, labels)
    with pytest.raises(HostError, match=r"\(B, 12\)"):
        d3.loss(features[:, 1:], labels)
    d3.loss(features, labels.flip(0))


def test_empty_batch_still_trains(host: ScriptHost) -> None:
    loss = attach(host).loss(torch.zeros(0, 12), torch.zeros(0, dtype=torch.long))
    assert torch.isfinite(loss)


# --- what it takes


def test_default_dtype_of_a_double_precision_script(toy_data: GZSLData) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        host = ScriptHost(toy_data)
        host.net_g.double()
        d3 = attach(host, synthesize=lambda ids, att: host.net_g(torch.randn(len(att), 5), att))
        d3.loss().backward()
        plain = attach(host)  # noise and attributes in the generator's dtype
        plain.loss().backward()
    finally:
        torch.set_default_dtype(torch.float32)
    assert host.net_g.hidden.weight.grad.abs().max() > 0


def test_data_object_of_a_script(host: ScriptHost) -> None:
    class Loader:
        def __init__(self, data: GZSLData) -> None:
            self.train_feature, self.train_label = data.train_features.numpy(), data.train_labels
            self.test_seen_feature = data.test_seen_features
            self.test_seen_label = data.test_seen_labels.int()
            self.test_unseen_feature = data.test_unseen_features.double()
            self.test_unseen_label = data.test_unseen_labels
            self.attribute = data.attributes
            self.seenclasses = data.seen_classes.flip(0)
            self.unseenclasses = data.unseen_classes

    read = attach(host, data=Loader(host.data)).host.data
    assert torch.equal(read.seen_classes, host.data.seen_classes)
    assert torch.equal(read.train_features, host.data.train_features)
    assert read.test_unseen_features.dtype == torch.float32
    with pytest.raises(HostError, match=r"(?s)attribute.*seenclasses"):
        attach(host, data=object())


def test_attach_is_deterministic(host: ScriptHost) -> None:
    one, same = attach(host), attach(host)
    for a, b in zip(one.distiller.parameters(), same.distiller.parameters(), strict=True):
        assert torch.equal(a, b)


def test_progress_of_the_teacher(host: ScriptHost) -> None:
    lines: list[str] = []
    attach(host, D3Settings(embedding_dim=8, teacher_epochs=2), progress=lines.append)
    assert [line.split(":")[0] for line in lines[:2]] == ["teacher epoch 1", "teacher epoch 2"]
    assert lines[2].startswith("D³ on script"), "then what check() says"


def test_released_settings_use_the_released_forms() -> None:
    settings = D3Settings.released(weight=0.5)
    assert (settings.kl_form, settings.relation) == ("double_softmax", "bce_with_logits")
    assert settings.weight == 0.5
