"""Functions of users: they may work in place, and what they return is checked."""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import d3_plugin
from d3_plugin import D3Warning, HostError
from d3_plugin.data import GZSLData
from d3_plugin.evaluation.softmax import train_default
from tests.toys import ScriptHost, attach

pytestmark = pytest.mark.filterwarnings("ignore:.*far below", "ignore:D³ has made no step")
Scorer = Callable[[Tensor], Any]
Train = Callable[[Tensor, Tensor, int], Any]


class Reusing:
    """Writes all its scores into the same memory, and changes the rows that it keeps."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer, self.kept, self.memory = scorer, [], torch.empty(0)

    def __call__(self, rows: Tensor) -> Tensor:
        for earlier in self.kept:
            earlier.zero_()
        scores = self.scorer(rows)
        self.kept.append(rows)
        if self.memory.shape != scores.shape:
            self.memory = torch.empty_like(scores)
        return self.memory.copy_(scores)


def changing(features: Tensor, labels: Tensor, num_classes: int) -> Scorer:
    made = train_default(features, labels, num_classes)
    features.zero_()
    labels.zero_()

    def scorer(rows: Tensor) -> Tensor:
        scores = made(rows)
        rows.fill_(-1.0)
        return scores

    return scorer


IN_PLACE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "transform": (
        {"transform_features": lambda rows: rows - 0.5},
        {"transform_features": lambda rows: rows.sub_(0.5)},
    ),
    "classifier": ({"train_classifier": train_default}, {"train_classifier": changing}),
    "kept rows": (
        {"train_classifier": train_default},
        {"train_classifier": lambda *rows: Reusing(train_default(*rows))},
    ),
}


@pytest.mark.parametrize("kind", IN_PLACE)
def test_what_works_in_place_changes_nothing_else(toy_data: GZSLData, kind: str) -> None:
    found = []
    for functions in IN_PLACE[kind]:
        host = ScriptHost(toy_data)
        d3 = attach(host, **functions)
        before = [toy_data.train_features.clone(), toy_data.test_unseen_features.clone()]
        labels = toy_data.train_labels.clone()
        made, classifier = d3.evaluate(draws=2), d3.classifier()
        rows = toy_data.test_unseen_features.clone()
        scores = [classifier.scores(rows, scaled=True).clone() for _ in range(2)]
        assert torch.equal(rows, before[1])
        assert torch.equal(toy_data.test_unseen_features, before[1])
        assert torch.equal(toy_data.train_features, before[0])
        assert torch.equal(toy_data.train_labels, labels)
        assert torch.equal(*scores)
        found.append((made.scores, made.student_scores, made.prior, made.host_scores))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_class_ids_that_are_changed(toy_data: GZSLData) -> None:
    host, found = ScriptHost(toy_data), []
    for change in (torch.clone, torch.zero_):

        def synthesize(ids: Tensor, attributes: Tensor, change: Any = change) -> Tensor:
            rows = host.net_g(torch.randn_like(attributes), attributes)
            change(ids)
            return rows

        made = d3_plugin.evaluate(generator=host.net_g, data=toy_data, synthesize=synthesize)
        found.append((made.scores, made.prior))
    np.testing.assert_equal(*found)


def scoring(of: Callable[[Tensor], Any]) -> dict[str, Train]:
    """A classifier that makes this of its logits."""

    def train(features: Tensor, labels: Tensor, num_classes: int) -> Scorer:
        made = train_default(features, labels, num_classes)
        return lambda rows: of(made(rows))

    return {"train_classifier": train}


def returning(answer: Any) -> dict[str, Train]:
    def train(features: Tensor, labels: Tensor, num_classes: int) -> Any:
        return answer

    return {"train_classifier": train}


SCORES: dict[str, Callable[[Tensor], Any]] = {
    "None": lambda s: None,
    "text": lambda s: "scores",
    "list": lambda s: s.tolist(),
    "objects": lambda s: s.numpy().astype(object),
    "predictions": lambda s: s.argmax(dim=1),
    "whole": lambda s: s.long(),
    "complex": lambda s: s.to(torch.complex64),
    "whole array": lambda s: s.numpy().astype(int),
    "meta": lambda s: s.to("meta"),
    "sparse": lambda s: s.to_sparse(),
    "columns": lambda s: s[:, 1:],
    "rows": lambda s: s[1:],
    "transposed": lambda s: s.T,
    "three axes": lambda s: s[None],
    "tuple": lambda s: (s, s),
}


@pytest.mark.parametrize("kind", SCORES)
def test_scores_of_another_kind(toy_data: GZSLData, kind: str) -> None:
    parts = {"generator": ScriptHost(toy_data).net_g, "data": toy_data}
    message = r"the function that train_classifier=train returns must return .*, got "
    with pytest.raises(HostError, match=message):
        d3_plugin.evaluate(**parts, **scoring(SCORES[kind]))
    with pytest.raises(
        HostError, match=r"transform_features=(<lambda> must return .*, got | returned None)"
    ):
        d3_plugin.evaluate(
            **parts, transform_features=lambda rows: SCORES[kind](rows) if kind != "columns" else 1
        )


@pytest.mark.parametrize("answer", [None, "text", 3, [1.0], torch.zeros(2, 6)])
def test_classifiers_that_are_none(toy_data: GZSLData, answer: Any) -> None:
    parts = {"generator": ScriptHost(toy_data).net_g, "data": toy_data}
    with pytest.raises(
        HostError, match=r"train_classifier=(train must return a function .*, got a| returned None)"
    ):
        d3_plugin.classifier(**parts, **returning(answer))


def test_whose_scores_are_not_finite(toy_data: GZSLData) -> None:
    host = ScriptHost(toy_data)
    parts = {"generator": host.net_g, "data": toy_data}
    bad = scoring(lambda s: s.masked_fill(s == s.amax(), torch.nan))
    with pytest.raises(
        HostError, match=r"train_classifier=train gives NaN or Inf for 1 of .* test"
    ):
        d3_plugin.evaluate(**parts, **bad)
    with pytest.raises(
        HostError, match=r"transform_features=<lambda> gives NaN or Inf for .* training"
    ):
        d3_plugin.evaluate(
            **parts,
            transform_features=lambda x: (x - x).log(),
        )
    d3 = attach(host)
    with torch.no_grad():
        d3.distiller.student.classify.bias.fill_(torch.nan)
    with pytest.raises(HostError, match=r"D³'s student gives NaN or Inf for 44 of 44 test rows"):
        d3.evaluate()
    with torch.no_grad():
        next(host.net_g.parameters()).fill_(torch.nan)
    with pytest.raises(HostError, match=r"the generator gives NaN or Inf for .* synthetic rows"):
        d3_plugin.evaluate(**parts)


def test_numpy_scores_are_taken(toy_data: GZSLData) -> None:
    parts = {"generator": ScriptHost(toy_data).net_g, "data": toy_data}
    expected = d3_plugin.evaluate(**parts, **scoring(lambda s: s)).scores
    for of in (lambda s: s.numpy(), lambda s: s.double().numpy()[:, ::-1][:, ::-1]):
        np.testing.assert_allclose(d3_plugin.evaluate(**parts, **scoring(of)).scores, expected)
    classifier = d3_plugin.classifier(**parts, **scoring(lambda s: s.numpy()))
    assert classifier.scores(toy_data.test_unseen_features, scaled=True).shape == (20, 6)
    assert classifier.predict(np.zeros((0, 12))).shape == (0,)


@pytest.mark.parametrize("of", [lambda s: s, lambda s: s.numpy()], ids=["tensor", "NumPy"])
def test_a_mapped_script_gets_mapped_labels(
    toy_data: GZSLData, of: Callable[[Tensor], object]
) -> None:
    """Unseen classes 1 and 4 come behind the seen 0, 2, 3 and 5."""
    got: list[Tensor] = []

    def train(features: Tensor, labels: Tensor, number: int) -> Callable[[Tensor], object]:
        got.append(labels)
        scorer = train_default(features, labels, number)
        return lambda rows: of(scorer(rows))

    host = ScriptHost(toy_data)
    d3 = attach(host, labels_are="mapped", train_classifier=train)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing has been trained
        found = d3.evaluate(final_classifier="host")
        plain = attach(host, train_classifier=train)
        expected = plain.evaluate(final_classifier="host")
    mapped = torch.tensor([0, 4, 1, 2, 5, 3])
    assert torch.equal(got[0], mapped[got[1]])
    # Another order of the classes is another order of the random weights.
    np.testing.assert_allclose(found.metrics.seen, expected.metrics.seen, atol=0.2)
    assert "mapped labels, unseen classes as 4 and on" in repr(d3.check(prove=False))
    assert "class ids 0 to 5" in repr(plain.check(prove=False))


@pytest.mark.parametrize("mapped", [False, True])
def test_a_loader_tells_which_labels_its_classifier_gets(toy_data: GZSLData, mapped: bool) -> None:
    """In f-CLSWGAN's the loop maps labels and the classifier does not; in ABP-ZSL's both do."""

    def part(name: str, classes: Tensor) -> dict[str, Tensor]:
        features, labels = (getattr(toy_data, f"{name}_{kind}") for kind in ("features", "labels"))
        labels = torch.searchsorted(classes, labels) if mapped else labels
        return {f"{name}_feature": features, f"{name}_label": labels}

    seen, unseen = toy_data.seen_classes, toy_data.unseen_classes
    loader = types.SimpleNamespace(
        **part("train", seen),
        **part("test_seen", seen),
        **part("test_unseen", unseen),
        attribute=toy_data.attributes,
        seenclasses=seen,
        unseenclasses=unseen,
    )
    got: list[Tensor] = []

    def train(features: Tensor, labels: Tensor, number: int) -> Scorer:
        got.append(labels)
        return train_default(features, labels, number)

    d3 = attach(ScriptHost(toy_data), data=loader, labels_are="mapped", train_classifier=train)
    d3.evaluate(final_classifier="host")
    assert set(got[0][:80].tolist()) == ({0, 1, 2, 3} if mapped else {0, 2, 3, 5})


@pytest.mark.parametrize("answer", [None, 5, lambda rows: rows, lambda rows: rows[:, 0]])
def test_mapped_classifiers_that_are_none(toy_data: GZSLData, answer: object) -> None:
    d3 = attach(ScriptHost(toy_data), labels_are="mapped", train_classifier=lambda *_: answer)
    with pytest.raises(HostError, match="train_classifier"):
        d3.evaluate(final_classifier="host")


def test_probabilities_are_turned_into_scores(toy_data: GZSLData) -> None:
    host = ScriptHost(toy_data)
    expected = attach(host, **scoring(lambda s: s.log_softmax(dim=1))).evaluate(draws=2)
    for of in (lambda s: s.softmax(dim=1), lambda s: s.softmax(dim=1).numpy()):
        d3 = attach(host, **scoring(of))
        with pytest.warns(D3Warning, match=r"=train gives probabilities: their log") as caught:
            found = d3.evaluate(draws=2)
        assert sum("probabilities" in str(each.message) for each in caught) == 1
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4, atol=1e-4)
    certain = scoring(lambda s: nn.functional.one_hot(s.argmax(dim=1), 6).float())
    with pytest.warns(D3Warning, match="probabilities"):
        found = attach(host, **certain).evaluate()
    assert np.isfinite(found.scores).all()


def test_one_row_whose_axis_is_squeezed(toy_data: GZSLData) -> None:
    classifier = d3_plugin.classifier(
        generator=ScriptHost(toy_data).net_g, data=toy_data, **scoring(torch.squeeze)
    )
    rows = toy_data.test_unseen_features
    assert classifier.predict(rows, scaled=True).shape == (20,)
    with pytest.raises(HostError, match=r"train returns must return .* \(1, 6\)"):
        classifier.predict(rows[:1], scaled=True)
