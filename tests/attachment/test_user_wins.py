"""What the user passes to ``attach`` wins over defaults, and over what plugins say of a trainer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import d3_plugin
from d3_adapters.fclswgan import FCLSWGANSettings, FCLSWGANTrainer
from d3_plugin import D3, Host, HostError, hookimpl
from d3_plugin.data import GZSLData
from d3_plugin.hosts.host import Scorer
from tests.toys import SMALL, PlainGenerator, parts_of

TINY = FCLSWGANSettings(hidden=8, synthetic_per_class=5, classifier_epochs=1)
Attach = Callable[..., D3]


@pytest.fixture(params=["trainer", "script"])
def form(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def attach(form: str, toy_data: GZSLData) -> Attach:
    """``attach`` in both forms; the trainer's plugin has an answer to everything."""
    if form == "trainer":
        trainer = FCLSWGANTrainer(toy_data, TINY)
        return lambda **options: d3_plugin.attach(trainer, **({"settings": SMALL} | options))
    parts = parts_of(PlainGenerator(), toy_data)
    return lambda **options: d3_plugin.attach(**(parts | options))


class Recording:
    """``synthesize`` and ``train_classifier``, which note what they were called with."""

    def __init__(self) -> None:
        self.synthesised: list[int] = []
        self.trained: list[int] = []
        self.net = nn.Linear(5, 12)

    def synthesize(self, class_ids: Tensor, attributes: Tensor) -> Tensor:
        self.synthesised.append(len(class_ids))
        return self.net(attributes)

    def train_classifier(self, features: Tensor, labels: Tensor, num_classes: int) -> Scorer:
        self.trained.append(len(labels))
        return lambda rows: torch.full((len(rows), num_classes), 7.0)


class Plugin(Recording):
    """The same as hooks, without ``d3_describe_host``."""

    @hookimpl
    def d3_synthesize_features(self, host: Host, class_ids: Tensor) -> Tensor:
        return self.synthesize(class_ids, host.data.attributes[class_ids])

    @hookimpl
    def d3_transform_features(self, features: Tensor) -> Tensor:
        return features[:, :3]

    @hookimpl
    def d3_train_classifier(self, features: Tensor, labels: Tensor, num_classes: int) -> Scorer:
        assert features.shape[1] == 3
        return self.train_classifier(features, labels, num_classes)


def test_data(attach: Attach, toy_data: GZSLData) -> None:
    given = replace(toy_data, name="given", test_seen_features=toy_data.test_seen_features / 2)
    d3 = attach(data=given)
    assert d3.host.data.name == "given"
    assert torch.equal(d3.host.data.test_seen_features, given.test_seen_features)


def test_settings(attach: Attach) -> None:
    given = replace(SMALL, embedding_dim=9)
    d3 = attach(settings=given)
    assert d3.settings is given
    assert d3.distiller.student.embed[0].out_features == 9


def test_mode(attach: Attach, form: str) -> None:
    """Each form's default is the other's choice."""
    default = attach()
    default.detach()
    other = "loss" if form == "trainer" else "hook"
    d3 = attach(mode=other)
    for attached, mode in ((default, "hook" if other == "loss" else "loss"), (d3, other)):
        assert (attached._optimizer_hook is None) == (mode == "loss")
    if other == "loss":
        d3.loss().backward()
    else:
        d3.host.optimizer.step()
        with pytest.raises(HostError, match="hook"):
            d3.loss()
    assert d3.steps == 1


def test_seed(attach: Attach) -> None:
    made = [attach(seed=seed, mode="loss") for seed in (3, 3, 4)]
    for d3 in made:
        d3.loss()
    one, same, other = (d3.distiller.student.classify.weight for d3 in made)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    one, same, other = (d3.evaluate(final_classifier="host").scores for d3 in made)
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("gather", [False, True])
def test_gather(attach: Attach, gather: bool) -> None:
    distiller = attach(gather=gather).distiller
    assert (distiller.gather, distiller.id2sd.gather, distiller.o2dbd.gather) == (gather,) * 3


def test_labels_are(attach: Attach, toy_data: GZSLData) -> None:
    d3 = attach(labels_are="mapped", mode="loss")
    ids = toy_data.train_labels
    with pytest.raises(HostError, match="not mapped"):
        d3.loss(toy_data.train_features, ids)
    d3.loss(toy_data.train_features, torch.searchsorted(toy_data.seen_classes, ids))


def test_noise_dim(attach: Attach) -> None:
    """Here another width than the generator's, so that it shows."""
    attach(noise_dim=5, mode="loss").loss()
    with pytest.raises(HostError, match=r"noise \(N, 6\)"):
        attach(noise_dim=6, mode="loss").loss()


def test_synthesize(attach: Attach, form: str) -> None:
    given = Recording()
    d3 = attach(synthesize=given.synthesize, mode="loss", synthetic_per_class=4)
    d3.loss().backward()
    d3.evaluate()
    trials = [2, 2] if form == "script" else []
    assert given.synthesised == [*trials, SMALL.synthetic_rows, 2 * 4]
    assert given.net.weight.grad.abs().max() > 0
    assert all(p.grad is None for p in d3.host.generator.parameters())


def test_transform_features(attach: Attach) -> None:
    """What the final classifier sees; a plugin's answer counts less."""
    widths: list[int] = []

    def train(features: Tensor, labels: Tensor, num_classes: int) -> Scorer:
        widths.append(features.shape[1])
        return lambda rows: widths.append(rows.shape[1]) or torch.zeros(len(rows), num_classes)

    given = {"transform_features": lambda rows: rows[:, :2], "train_classifier": train}
    d3 = attach(mode="loss", plugins=[Plugin()], **given)
    d3.loss()
    d3.evaluate()
    assert widths == [2, 2]


def test_modules(attach: Attach) -> None:
    """Beside the generator, not instead of it."""
    net, decoder = nn.Linear(5, 12), nn.Sequential(nn.BatchNorm1d(12), nn.Dropout())
    modes: list[bool] = []

    def synthesize(class_ids: Tensor, attributes: Tensor) -> Tensor:
        modes.append(decoder.training)
        return decoder(net(attributes))

    before = decoder[0].running_mean.clone()
    d3 = attach(modules=iter([decoder]), synthesize=synthesize, mode="loss")
    assert d3.host.generator in d3.host.modules
    assert decoder in d3.host.modules
    d3.loss()
    d3.evaluate()
    assert torch.equal(before, decoder[0].running_mean)
    assert modes[-2:] == [True, False], "the step, then evaluate"
    assert decoder.training


@pytest.mark.filterwarnings("ignore:D³ has made no step")
def test_train_classifier(attach: Attach) -> None:
    given = Recording()
    made = attach(train_classifier=given.train_classifier).evaluate(final_classifier="host")
    assert len(given.trained) == 1
    assert (made.scores == 7).all()


def test_synthetic_per_class(attach: Attach, toy_data: GZSLData) -> None:
    given = Recording()
    options = {"synthetic_per_class": 11, "train_classifier": given.train_classifier}
    d3 = attach(mode="loss", **options)
    d3.loss()
    d3.evaluate()
    assert given.trained == [len(toy_data.train_labels) + 2 * 11]


def test_plugins(attach: Attach, toy_data: GZSLData) -> None:
    """Of one hook in two plugins the given plugin's answers."""
    given, earlier = Plugin(), Plugin()
    d3 = attach(plugins=(p for p in (earlier, given)), synthetic_per_class=3, mode="loss")
    d3.loss()
    made = d3.evaluate(final_classifier="host")
    assert given.synthesised[-2:] == [SMALL.synthetic_rows, 2 * 3]
    assert given.trained == [len(toy_data.train_labels) + 2 * 3]
    assert (made.scores == 7).all()
    assert (earlier.synthesised, earlier.trained) == ([], [])


def test_functions_win_over_plugins_given_beside_them(attach: Attach) -> None:
    given, plugin = Recording(), Plugin()
    d3 = attach(
        synthesize=given.synthesize,
        train_classifier=given.train_classifier,
        plugins=[plugin],
        mode="loss",
    )
    d3.loss()
    d3.evaluate()
    assert (plugin.synthesised, plugin.trained) == ([], [])
    assert given.synthesised[-2:] == [SMALL.synthetic_rows, given.trained[0] - 80]
