"""``evaluate()`` of a plain script, what it says of the classifier, and how results are shown."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import d3_plugin
from d3_adapters.fclswgan import FCLSWGANSettings, FCLSWGANTrainer
from d3_plugin import D3Settings, D3Warning, HostError
from d3_plugin.data import GZSLData
from d3_plugin.evaluation import softmax
from tests.toys import SMALL, WEIGHT_ZERO, ScriptHost, VAEHost, attach

pytestmark = pytest.mark.filterwarnings("ignore:D³ has made no step")
DEFAULT = "default softmax of d3_plugin"


def centres(features: Tensor, labels: Tensor, num_classes: int) -> nn.Module:
    """Linear, with the class means as weights."""
    net = nn.Linear(features.shape[1], num_classes, bias=False)
    with torch.no_grad():
        for c in range(num_classes):
            net.weight[c] = features[labels == c].mean(dim=0)
    return net


def constant(features: Tensor, labels: Tensor, num_classes: int) -> Callable[[Tensor], Tensor]:
    return lambda rows: torch.arange(num_classes).float().expand(rows.shape[0], -1)


@pytest.mark.parametrize("kind", ["defaults", "own parts"])
def test_a_plain_script_scores_as_weight_zero_does(toy_data: GZSLData, kind: str) -> None:
    host: Any = ScriptHost(toy_data) if kind == "defaults" else VAEHost(toy_data)
    parts: dict[str, Any] = {"generator": host.net_g, "data": toy_data, "synthetic_per_class": 9}
    if kind != "defaults":
        parts |= {"synthesize": host.synthesize, "modules": list(host.nets.values())}
        parts |= {"transform_features": torch.exp, "train_classifier": centres}
    rest = {name: value for name, value in parts.items() if name not in ("generator", "data")}
    d3 = attach(host, WEIGHT_ZERO, **rest)
    expected = d3.evaluate(final_classifier="host", draws=2)
    made = d3_plugin.evaluate(**parts, seed=7, draws=2)
    np.testing.assert_array_equal(made.scores, expected.scores)
    assert made.metrics == expected.metrics
    rows = torch.cat([toy_data.test_seen_features, toy_data.test_unseen_features])
    scores = d3_plugin.classifier(**parts, seed=7).scores(rows, scaled=True)
    np.testing.assert_allclose(scores.numpy(), expected.scores[0], rtol=1e-6, atol=1e-6)


def test_noise_of_another_width(toy_data: GZSLData) -> None:
    class Generator(nn.Linear):
        def forward(self, noise: Tensor, attributes: Tensor) -> Tensor:
            return super().forward(torch.cat([noise[:, :2], noise[:, 2:] + attributes], 1))

    parts = {"generator": Generator(7, 12), "data": toy_data}
    assert d3_plugin.evaluate(**parts, noise_dim=7).scores.shape[2] == 6


@pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason="torch before 2.6")
def test_networks_behind_synthesis_are_scored_in_eval_mode(toy_data: GZSLData) -> None:
    net_g, norm = ScriptHost(toy_data).net_g, nn.BatchNorm1d(toy_data.feature_dim)

    def synthesize(ids: Tensor, attributes: Tensor) -> Tensor:
        return norm(net_g(torch.randn_like(attributes), attributes))

    parts = {"generator": net_g, "data": toy_data, "synthesize": synthesize}
    noticed, named = (
        d3_plugin.evaluate(**parts, train_classifier=centres, modules=modules)
        for modules in ([], [norm])
    )
    assert (noticed.scores == named.scores).all()
    assert norm.training


def test_missing_parts_are_named(toy_data: GZSLData) -> None:
    generator = ScriptHost(toy_data).net_g
    for parts in ({}, {"generator": generator}, {"data": toy_data}):
        with pytest.raises(HostError, match="needs a trainer, or generator= and data="):
            d3_plugin.evaluate(**parts)
    with pytest.raises(HostError, match="not both"):
        d3_plugin.classifier(object(), generator=generator, data=toy_data)


@pytest.mark.parametrize(
    ("options", "kind", "name"),
    [
        ({}, "host", f"{DEFAULT}; train_classifier= scores your own"),
        ({}, "both", f"{DEFAULT} + 0.7 x student of D³; train_classifier= scores your own"),
        ({}, "student", "student of D³"),
        ({"train_classifier": centres}, "host", "train_classifier=centres"),
        ({"train_classifier": centres}, "both", "train_classifier=centres + 0.7 x student of D³"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*far below")
def test_the_classifier_is_named(
    toy_data: GZSLData, options: dict[str, Any], kind: str, name: str
) -> None:
    made = attach(ScriptHost(toy_data), **options).evaluate(final_classifier=kind)
    assert made.classifier == name
    assert str(made).endswith(f"[{name}]")


def test_a_familys_own_classifier_is_named(toy_data: GZSLData) -> None:
    trainer = FCLSWGANTrainer(toy_data, FCLSWGANSettings(hidden=8, synthetic_per_class=20))
    assert d3_plugin.evaluate(trainer).classifier == "classifier of fclswgan"


def test_a_classifier_far_below_the_student_is_pointed_out(
    toy_data: GZSLData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that is not is left alone: any other warning is an error here."""
    monkeypatch.setattr(softmax, "STEPS", 500, raising=False)
    features = torch.cat([toy_data.train_features, toy_data.test_unseen_features])
    labels = torch.cat([toy_data.train_labels, toy_data.test_unseen_labels])
    means = centres(features, labels, toy_data.num_classes).weight.detach()
    settings = replace(SMALL, weight=0.0, student_lr=1e-2)
    for train_classifier in (constant, None):
        host = ScriptHost(toy_data)

        def synthesize(ids: Tensor, attributes: Tensor, host: ScriptHost = host) -> Tensor:
            return means[ids] + 0.02 * host.net_g(torch.randn_like(attributes), attributes)

        d3 = attach(host, settings, synthesize=synthesize, train_classifier=train_classifier)
        host.run(60, d3)
        if train_classifier is None:
            assert d3.evaluate().metrics.ausuc > 0.5
            continue
        with pytest.warns(D3Warning, match="=constant is far below D³'s student: H 0.0% against"):
            d3.evaluate()
        d3.evaluate(final_classifier="host")  # nothing to compare with


def test_results_are_short(toy_data: GZSLData) -> None:
    d3 = attach(ScriptHost(toy_data), train_classifier=centres)
    made = d3.evaluate(draws=2, final_classifier="student")
    for shown in (repr(made), repr(d3)):
        assert len(shown) < 400
        assert "array" not in shown
    assert re.fullmatch(r"Evaluation\(U \d.*  AUSUC \d+.*\[student of D³\]\)", repr(made))
    figures = made._repr_html_()
    assert figures.count("<td>") == figures.count("<th>") == 6
    assert f"<td>{made.metrics.ausuc:.1%}</td>" in figures
    content = json.loads(json.dumps(made.to_dict()))
    assert content["ausuc"] == made.metrics.ausuc
    assert content["classifier"] == "student of D³"


def test_settings_show_what_is_not_the_default() -> None:
    assert repr(D3Settings()) == "D3Settings()"
    assert repr(D3Settings(weight=1, relation="bce")) == "D3Settings(weight=1, relation='bce')"
    released = D3Settings.released()
    assert eval(repr(released)) == released
