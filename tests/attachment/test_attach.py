"""What ``attach`` and ``loss`` refuse, and how they say it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import d3_plugin
from d3_adapters.fclswgan import FCLSWGANSettings, FCLSWGANTrainer
from d3_plugin import D3Settings, HostError, InputError
from d3_plugin.data import GZSLData, load
from tests.script_host import ScriptHost

SMALL = D3Settings(embedding_dim=16, teacher_epochs=30)


@pytest.fixture
def host(toy_data: GZSLData) -> ScriptHost:
    return ScriptHost(toy_data)


def script(host: ScriptHost, **options: object) -> d3_plugin.D3:
    given = {"generator": host.net_g, "optimizer": host.optimizer_g, "data": host.data}
    return d3_plugin.attach(**{**given, "settings": SMALL, **options})


def test_everything_missing_is_listed_at_once() -> None:
    with pytest.raises(HostError) as error:
        d3_plugin.attach()
    for part in ("3 problems", "generator must be", "optimizer must be", "data is missing"):
        assert part in str(error.value)


def test_unknown_trainer() -> None:
    with pytest.raises(HostError, match=r"type dict.*fclswgan.*Pass generator="):
        d3_plugin.attach({})


def test_trainer_and_generator(host: ScriptHost) -> None:
    with pytest.raises(HostError, match="not both"):
        d3_plugin.attach(host, generator=host.net_g)


def test_optimizer_of_another_module(host: ScriptHost) -> None:
    with pytest.raises(HostError, match=r"not in the optimizer given \(hidden\.weight"):
        script(host, optimizer=host.optimizer_d)


def test_unknown_mode(host: ScriptHost) -> None:
    with pytest.raises(InputError, match="mode is one of loss, hook; got 'magic'"):
        script(host, mode="magic")


def test_noise_of_another_width(host: ScriptHost) -> None:
    with pytest.raises(HostError, match=r"noise \(2, 7\).*noise_dim=.*synthesize="):
        script(host, noise_dim=7)


@pytest.mark.parametrize(
    ("features", "labels", "match"),
    [
        (torch.zeros(4, 12), None, "together"),
        (torch.zeros(4, 11), torch.zeros(4, dtype=torch.long), r"\(B, 12\).*got \(4, 11\)"),
        (torch.zeros(4, 12), torch.zeros(3, dtype=torch.long), r"\(B,\).*\(3,\)"),
        (torch.zeros(4, 12), torch.zeros(4), "torch.float32"),
        (torch.zeros(4, 12), torch.tensor([0, 1, 2, 3]), "not class_ids"),
        (torch.zeros(4, 12), torch.tensor([0, -1, 2, 3]), "not class_ids"),
    ],
)
def test_bad_batches(
    host: ScriptHost, features: torch.Tensor, labels: torch.Tensor | None, match: str
) -> None:
    with pytest.raises(HostError, match=match):
        script(host).loss(features=features, labels=labels)


def test_labels_of_both_forms(host: ScriptHost) -> None:
    """Seen classes are 0, 2, 3, 5: position 2 means class 3, and is a valid class id itself."""
    data = host.data
    rows = torch.isin(data.train_labels, torch.tensor([3, 5]))
    features, ids = data.train_features[rows], data.train_labels[rows]
    positions = torch.searchsorted(data.seen_classes, ids)
    assert set(positions.tolist()) == {2, 3}
    script(host).loss(features=features, labels=ids.int())
    script(host, labels_are="mapped").loss(features=features, labels=positions)
    with pytest.raises(HostError, match=r"labels_are='mapped'"):
        script(host).loss(features=features, labels=positions)
    with pytest.raises(HostError, match=r"labels_are='class_ids'"):
        script(host, labels_are="mapped").loss(features=features, labels=ids)


def test_labels_are_checked_in_every_batch(host: ScriptHost) -> None:
    """A data set's unseen class 1 in a later batch must not go in as in-distribution."""
    d3 = script(host)
    features, labels = host.data.train_features[:4], host.data.train_labels[:4]
    d3.loss(features, labels)
    for wrong in (1, -1, 99):
        with pytest.raises(HostError, match="not class_ids of seen classes"):
            d3.loss(features, torch.tensor([0, 2, wrong, 3]))


def test_options_that_are_wrong_fail_before_the_teacher_is_trained(host: ScriptHost) -> None:
    with pytest.raises(InputError, match="labels_are is one of class_ids, mapped"):
        script(host, labels_are="global")
    with pytest.raises(InputError, match=r"synthetic_per_class must be .* 1\.\.1000000; got -3"):
        script(host, synthetic_per_class=-3)
    with pytest.raises(InputError, match=r"noise_dim must be .* 1\.\.1000000; got 0"):
        script(host, noise_dim=0)


def test_other_data_than_the_trainers(toy_data: GZSLData) -> None:
    trainer = FCLSWGANTrainer(toy_data, FCLSWGANSettings(hidden=8))
    with pytest.raises(HostError, match=r"\(digits-0\) has other classes.*\(toy\)"):
        d3_plugin.attach(trainer, data=load("digits-0"))
    unscaled = replace(toy_data, train_features=toy_data.train_features * 16)
    with pytest.warns(d3_plugin.D3Warning, match="is one of them not scaled"):
        d3_plugin.attach(trainer, data=unscaled, settings=SMALL)


def test_a_frozen_layer_need_not_be_in_the_optimizer(host: ScriptHost) -> None:
    host.net_g.hidden.requires_grad_(False)
    optimizer = torch.optim.Adam(p for p in host.net_g.parameters() if p.requires_grad)
    script(host, optimizer=optimizer).loss().backward()
    assert host.net_g.hidden.weight.grad is None


def test_default_dtype_of_a_double_precision_script(toy_data: GZSLData) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        host = ScriptHost(toy_data)
        host.net_g.double()
        d3 = script(host, synthesize=lambda ids, att: host.net_g(torch.randn(len(att), 5), att))
        d3.loss().backward()
    finally:
        torch.set_default_dtype(torch.float32)
    assert host.net_g.hidden.weight.grad.abs().max() > 0


def test_empty_batch_still_trains(host: ScriptHost) -> None:
    loss = script(host).loss(torch.zeros(0, 12), torch.zeros(0, dtype=torch.long))
    assert torch.isfinite(loss)


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

    read = script(host, data=Loader(host.data)).host.data
    assert torch.equal(read.seen_classes, host.data.seen_classes)
    assert torch.equal(read.train_features, host.data.train_features)
    assert read.test_unseen_features.dtype == torch.float32
    with pytest.raises(HostError) as error:
        script(host, data=object())
    assert "no attribute 'attribute'" in str(error.value)
    assert "no attribute 'seenclasses'" in str(error.value)


def test_attach_is_deterministic_and_seeded(host: ScriptHost) -> None:
    one, same, other = script(host), script(host), script(host, seed=1)
    for a, b in zip(one.distiller.parameters(), same.distiller.parameters(), strict=True):
        assert torch.equal(a, b)
    weights = [d.distiller.teacher.classify.weight for d in (one, other)]
    assert not torch.equal(*weights)


def test_progress_of_the_teacher(host: ScriptHost) -> None:
    lines: list[str] = []
    script(host, settings=D3Settings(embedding_dim=8, teacher_epochs=2), progress=lines.append)
    assert [line.split(":")[0] for line in lines] == ["teacher epoch 1", "teacher epoch 2"]


def test_settings_list_every_problem() -> None:
    with pytest.raises(InputError) as error:
        D3Settings(weight=-1, score="best", student_lr=0, temperature=float("nan"))
    for part in ("4 problems", "weight", "score must be one of max_softmax", "student_lr", "nan"):
        assert part in str(error.value)


def test_released_settings_use_the_released_forms() -> None:
    settings = D3Settings.released(weight=0.5)
    assert (settings.kl_form, settings.relation) == ("double_softmax", "bce_with_logits")
    assert settings.weight == 0.5
