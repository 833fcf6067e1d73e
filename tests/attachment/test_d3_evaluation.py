"""``evaluate()`` and what it may not disturb."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from d3_plugin import D3Warning, InputError
from d3_plugin.data import GZSLData
from tests.toys import SMALL, WEIGHT_ZERO, ScriptHost, attach, toy_problem

KINDS = ("student", "both", "host")


def test_modules_behind_synthesis_are_kept(toy_data: GZSLData) -> None:
    """A decoder with batch norm, as a feedback path may have."""
    host = ScriptHost(toy_data)
    decoder = torch.nn.Sequential(torch.nn.BatchNorm1d(12), torch.nn.Dropout())
    modes = []

    def synthesize(class_ids: torch.Tensor, attributes: torch.Tensor) -> torch.Tensor:
        modes.append(decoder[1].training)
        return decoder(host.net_g(torch.randn_like(attributes), attributes))

    before = decoder[0].running_mean.clone()
    d3 = attach(host, synthesize=synthesize, modules=[decoder])
    d3.loss().backward()
    d3.evaluate()
    assert torch.equal(before, decoder[0].running_mean)
    assert modes == [True, True, True, False], "two trials, step, evaluation"
    assert decoder.training


@pytest.mark.filterwarnings("ignore:D³ has made no step")
def test_classifier_of_a_script_may_train_with_torch(toy_data: GZSLData) -> None:
    host = ScriptHost(toy_data)

    def train(features: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.nn.Module:
        model = torch.nn.Linear(features.shape[1], classes)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(200):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(features), labels).backward()
            optimizer.step()
        return model

    d3 = attach(host, train_classifier=train, synthetic_per_class=20)
    assert d3.evaluate(final_classifier="host").metrics.seen > 0.5


def test_weight_zero_and_host_classifier_is_the_baseline(toy_data: GZSLData) -> None:
    alone = ScriptHost(toy_data)
    alone.run(3)
    beside = ScriptHost(toy_data)
    d3 = attach(beside, WEIGHT_ZERO)
    beside.run(3, d3)
    expected = attach(alone, WEIGHT_ZERO).evaluate(final_classifier="host").scores
    assert (d3.evaluate(final_classifier="host").scores == expected).all()
    assert (d3.evaluate().host_scores == expected).all()
    assert d3.evaluate(final_classifier="student").host_scores is None


def test_evaluate_repeats_itself_and_has_sane_numbers(
    toy_data: GZSLData, device: torch.device
) -> None:
    host = ScriptHost(toy_data, device=device)
    d3 = attach(host, synthetic_per_class=20)
    host.run(40, d3)
    first, second = d3.evaluate(draws=2), d3.evaluate(draws=2)
    assert first.metrics == second.metrics
    assert first.scores.shape == (2, len(first.labels), 6)
    assert first.metrics.seen > 0.5, "chance over six classes is 0.17"
    assert first.prior.sum() == pytest.approx(1)


def test_the_offset_lowers_the_seen_scores_and_nothing_else(toy_data: GZSLData) -> None:
    """By the log of the number of seen classes; AUSUC stays, and so does the host alone."""
    made = {}
    for offset in (0.0, 1.5):
        host = ScriptHost(toy_data)
        d3 = attach(host, replace(SMALL, seen_offset=offset))
        host.run(3, d3)
        made[offset] = {kind: d3.evaluate(final_classifier=kind) for kind in KINDS}
    seen = toy_data.seen_classes
    for kind in KINDS:
        plain, lowered = made[0.0][kind], made[1.5][kind]
        expected = torch.from_numpy(plain.scores).clone()
        expected[:, :, seen] -= 0.0 if kind == "host" else 1.5 * math.log(len(seen))
        torch.testing.assert_close(torch.from_numpy(lowered.scores), expected)
        assert lowered.metrics.ausuc == pytest.approx(plain.metrics.ausuc, abs=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_both_adds_the_weighted_student_to_the_host(toy_data: GZSLData, weight: float) -> None:
    host = ScriptHost(toy_data)
    d3 = attach(host, replace(SMALL, seen_offset=0.0, ensemble_weight=weight))
    host.run(3, d3)
    student, both = (d3.evaluate(final_classifier=kind) for kind in ("student", "both"))
    of_host = torch.from_numpy(both.host_scores).log_softmax(dim=2)
    torch.testing.assert_close(
        torch.from_numpy(both.scores), of_host + weight * torch.from_numpy(student.scores)
    )


def test_weight_and_offset_can_be_given_instead(toy_data: GZSLData) -> None:
    host = ScriptHost(toy_data)
    d3 = attach(host)
    host.run(3, d3)
    made = d3.evaluate(ensemble_weight=2.0, seen_offset=0.7)
    d3.settings = replace(d3.settings, ensemble_weight=2.0, seen_offset=0.7)
    assert (made.scores == d3.evaluate().scores).all()
    with pytest.raises(InputError, match=r"seen_offset.*at least 0.*-1"):
        d3.evaluate(seen_offset=-1.0)
    with pytest.raises(InputError, match="final_classifier"):
        d3.evaluate(final_classifier="")


@pytest.mark.parametrize("classifier", KINDS)
def test_d3_that_never_ran_is_named(toy_data: GZSLData, classifier: str) -> None:
    """``loss()`` forgotten; an optimiser that is never stepped, or was created again."""
    host = ScriptHost(toy_data)
    d3 = attach(host)
    with pytest.warns(D3Warning, match=r"no step.*loss\(\) was never called"):
        d3.evaluate(final_classifier=classifier)
    hooked = attach(host, mode="hook")
    host.optimizer_g = torch.optim.Adam(host.net_g.parameters())
    host.run(2)
    with pytest.warns(D3Warning, match="no step.*optimizer.*created again"):
        hooked.evaluate(final_classifier=classifier)
    d3.loss()
    d3.evaluate(final_classifier=classifier)
    attach(host, WEIGHT_ZERO).evaluate(final_classifier="host")  # the baseline needs no step


def test_the_student_starts_as_the_teacher(toy_data: GZSLData) -> None:
    copy = attach(ScriptHost(toy_data)).distiller
    random = attach(ScriptHost(toy_data), replace(SMALL, student_start="random")).distiller
    rows, seen = toy_data.train_features[:5], toy_data.seen_classes
    (logits, embedding), (taught, taught_embedding) = copy.student(rows), copy.teacher(rows)
    torch.testing.assert_close(embedding, taught_embedding)
    torch.testing.assert_close(logits[:, seen], taught)
    assert not torch.equal(random.student(rows)[1], taught_embedding)
    assert all(p.requires_grad for p in copy.student.parameters())
    unseen = toy_data.unseen_classes
    of_unseen = [d.student.classify.weight[unseen] for d in (copy, random)]
    assert torch.equal(*of_unseen), "what is not copied is drawn alike"


def test_a_semantic_start_predicts_the_weights_of_unseen_classes(toy_data: GZSLData) -> None:
    """From attributes, where the seen classes' weights are linear in them; the rest is kept."""
    student = attach(ScriptHost(toy_data)).distiller.student
    seen, unseen = toy_data.seen_classes, toy_data.unseen_classes
    stream = torch.Generator().manual_seed(0)
    attributes = torch.randn(6, 2, generator=stream)
    weights = attributes @ torch.randn(2, student.classify.in_features, generator=stream) + 1
    with torch.no_grad():
        student.classify.weight[seen], student.classify.bias[seen] = (
            weights[seen],
            torch.arange(4.0),
        )
    student.predict_unseen(attributes, seen, unseen)
    torch.testing.assert_close(student.classify.weight, weights, atol=1e-2, rtol=0)
    assert student.classify.bias[seen].tolist() == [0, 1, 2, 3]
    assert student.classify.bias[unseen].tolist() == [1.5, 1.5]


def test_a_semantic_start_knows_unseen_classes_without_a_step(toy_data: GZSLData) -> None:
    """Better than one that is drawn; seen logits are the teacher's."""
    settings = replace(SMALL, student_start="semantic", final_classifier="student")
    d3 = attach(ScriptHost(toy_data), settings)
    rows, seen = toy_data.train_features[:5], toy_data.seen_classes
    torch.testing.assert_close(
        d3.distiller.student(rows)[0][:, seen], d3.distiller.teacher(rows)[0]
    )
    with pytest.warns(D3Warning, match="no step"):
        made = d3.evaluate().metrics.zsl
    assert made > 0.6, "chance is 0.5"


def test_a_semantic_start_with_a_single_unseen_class() -> None:
    d3 = attach(ScriptHost(toy_problem((0, 2, 3), (1,))), replace(SMALL, student_start="semantic"))
    assert d3.distiller.student.classify.weight.isfinite().all()
