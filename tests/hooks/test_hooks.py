"""Every hook is documented, and does what its specification says."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import d3_plugin
from d3_plugin import D3Settings, Host, HostError, HostFamily, PluginError, StepBatch, hookimpl
from d3_plugin.data import GZSLData
from d3_plugin.hooks import specs
from d3_plugin.hooks.manager import host_families, make_manager
from d3_plugin.hosts.host import Scorer
from tests import toys
from tests.toys import SMALL, ScriptHost

SPECS = {
    name: function
    for name, function in vars(specs).items()
    if hasattr(function, f"{specs.PROJECT}_spec")
}


def attach(host: ScriptHost, *plugins: object, **options: Any) -> d3_plugin.D3:
    return toys.attach(host, plugins=plugins, **options)


@pytest.mark.parametrize("name", SPECS)
def test_every_hook_is_documented_and_tested(name: str) -> None:
    spec = SPECS[name]
    doc = inspect.getdoc(spec) or ""
    parameters = list(inspect.signature(spec).parameters)
    assert len(doc) > 40
    assert [p for p in parameters if f"    {p}: " not in doc] == []
    assert inspect.signature(spec).return_annotation is not inspect.Signature.empty
    tests = [n for n in globals() if n.startswith(f"test_{name.removeprefix('d3_')}")]
    assert tests, f"no test in this file is named test_{name.removeprefix('d3_')}..."


def test_host_families() -> None:
    class Plugin:
        @hookimpl
        def d3_host_families(self) -> list[HostFamily]:
            return [HostFamily("cvae", "a CVAE", D3Settings, lambda *a: None)]

    assert "fclswgan" in host_families(make_manager())
    assert list(host_families(make_manager([Plugin()]))) == [
        "cvae",
        "diffusion",
        "fclswgan",
        "tfvaegan",
    ]
    with pytest.raises(PluginError, match="cvae"):
        host_families(make_manager([Plugin(), Plugin()]))


def test_describe_host(toy_data: GZSLData) -> None:
    class Plugin:
        @hookimpl
        def d3_describe_host(self, trainer: Any) -> Host | None:
            if not isinstance(trainer, ScriptHost):
                return None
            return Host("script", trainer.net_g, trainer.optimizer_g, trainer.data, trainer=trainer)

    host = ScriptHost(toy_data)
    d3 = d3_plugin.attach(host, settings=SMALL, plugins=[Plugin()])
    assert d3.host.trainer is host
    before = host.net_g.out.weight.clone()
    host.run(1)  # a trainer gets mode="hook": nothing is passed into its loop
    assert d3.steps == 1
    assert not torch.equal(before, host.net_g.out.weight)


def test_synthesize_features_in_training_and_for_the_classifier(toy_data: GZSLData) -> None:
    calls: list[tuple[int, bool, bool, set[int]]] = []

    class Plugin:
        @hookimpl
        def d3_synthesize_features(
            self, host: Host, class_ids: Tensor, differentiable: bool
        ) -> Tensor:
            ids = set(class_ids.tolist())
            calls.append((len(class_ids), differentiable, torch.is_grad_enabled(), ids))
            att = host.data.attributes[class_ids]
            return host.generator(torch.zeros_like(att), att)

    host = ScriptHost(toy_data)
    d3 = attach(host, Plugin(), synthetic_per_class=15)
    d3.loss()
    d3.evaluate(draws=2)
    assert calls[:2] == [(2, True, True, {1})] * 2, "two trials in attach"
    assert calls[2] == (10, True, True, {1, 4})
    assert calls[3:] == [(30, False, False, {1, 4})] * 2


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (lambda host, ids: torch.zeros(3, 12), r"\(2, 12\), got .*\(3, 12\)"),
        (lambda host, ids: host.data.attributes[ids].numpy(), "got an array"),
        (lambda host, ids: torch.zeros(2, 12), "without gradient"),
    ],
)
def test_synthesize_features_that_are_wrong(toy_data: GZSLData, answer: Any, match: str) -> None:
    class Plugin:
        @hookimpl
        def d3_synthesize_features(self, host: Host, class_ids: Tensor) -> Any:
            return answer(host, class_ids)

    with pytest.raises(HostError, match=match):
        attach(ScriptHost(toy_data), Plugin()).loss()


def test_transform_features_reaches_classifier_and_test_rows(toy_data: GZSLData) -> None:
    widths: list[int] = []

    class Plugin:
        @hookimpl
        def d3_transform_features(self, host: Host, features: Tensor) -> Tensor:
            return torch.cat([features, features[:, :3]], dim=1)

        @hookimpl
        def d3_train_classifier(
            self, host: Host, features: Tensor, labels: Tensor, num_classes: int
        ) -> Scorer:
            widths.append(features.shape[1])

            def score(rows: Tensor) -> Tensor:
                widths.append(rows.shape[1])
                return torch.zeros(len(rows), num_classes)

            return score

    d3 = attach(ScriptHost(toy_data), Plugin())
    d3.loss()
    d3.evaluate()
    assert widths == [15, 15]


def test_train_classifier_gets_real_seen_and_synthetic_unseen_rows(toy_data: GZSLData) -> None:
    counts: list[list[int]] = []

    class Plugin:
        @hookimpl
        def d3_train_classifier(
            self, host: Host, features: Tensor, labels: Tensor, num_classes: int
        ) -> Scorer:
            counts.append(labels.bincount(minlength=num_classes).tolist())
            return lambda rows: torch.zeros(len(rows), 1)

    d3 = attach(ScriptHost(toy_data), Plugin(), synthetic_per_class=7)
    d3.loss()
    with pytest.raises(HostError, match=r"\(44, 6\), got \(44, 1\)"):
        d3.evaluate()
    assert counts == [[20, 7, 20, 20, 7, 20]]


def term_plugin(name: str, scale: float) -> object:
    class Plugin:
        @hookimpl
        def d3_extra_terms(self, host: Host, batch: StepBatch) -> dict[str, Tensor]:
            return {name: scale * batch.student_logits[: batch.num_synthetic].square().mean()}

    return Plugin()


def test_extra_terms_are_summed_by_name_whatever_the_order(toy_data: GZSLData) -> None:
    plugins = [term_plugin("z", 1e8), term_plugin("a", 1.0), term_plugin("m", 3e-3)]
    totals = []
    for order in (plugins, plugins[::-1]):
        d3 = attach(ScriptHost(toy_data), *order)
        d3.loss()
        totals.append(d3.values["total"])
        by_name = [d3.values[name] for name in ("a", "be", "cls", "kl", "m", "od", "z")]
        teacher = {"teacher_real", "teacher_synthetic"}
        assert d3.values.keys() - teacher == {"a", "be", "cls", "kl", "m", "od", "total", "z"}
        assert torch.equal(sum(by_name, start=torch.zeros(())), d3.values["total"])
    assert torch.equal(*totals)


def test_extra_terms_reach_the_generator(toy_data: GZSLData) -> None:
    gradients = []
    for plugins in ((), (term_plugin("a", 10.0),)):
        host = ScriptHost(toy_data)
        attach(host, *plugins).loss().backward()
        gradients.append(host.net_g.out.bias.grad)
    assert not torch.allclose(*gradients)


@pytest.mark.parametrize(
    "answer", [lambda: 1 / 0, lambda: 5, lambda: {"mine": 1.0}, lambda: {"mine": torch.ones(2)}]
)
def test_a_plugin_whose_terms_are_unusable_is_named(
    toy_data: GZSLData, answer: Callable[[], Any]
) -> None:
    class Terms:
        @hookimpl
        def d3_extra_terms(self) -> Any:
            return answer()

    d3 = attach(ScriptHost(toy_data), Terms())
    with pytest.raises(PluginError, match=r"d3_extra_terms of plugin Terms.*(failed|must)"):
        d3.loss()


def test_extra_terms_with_a_taken_name(toy_data: GZSLData) -> None:
    with pytest.raises(PluginError, match="od"):
        attach(ScriptHost(toy_data), term_plugin("od", 1.0)).loss()


def test_after_step_sees_every_step(toy_data: GZSLData) -> None:
    log: list[tuple[int, list[str], bool]] = []

    class Plugin:
        @hookimpl
        def d3_after_step(self, host: Host, step: int, values: dict[str, Tensor]) -> None:
            log.append((step, sorted(values), any(v.requires_grad for v in values.values())))

    d3 = attach(ScriptHost(toy_data), Plugin())
    d3.loss()
    d3.loss()
    names = ["be", "cls", "kl", "od", "teacher_real", "teacher_synthetic", "total"]
    assert log == [(1, names, False), (2, names, False)]


@pytest.mark.parametrize("name", ["od", "total", "step", "teacher_real", "gradient_share"])
def test_extra_terms_with_a_name_in_the_log(toy_data: GZSLData, name: str) -> None:
    with pytest.raises(PluginError, match=f"of plugin Plugin.*named '{name}' already"):
        attach(ScriptHost(toy_data), term_plugin(name, 1.0)).loss()


@pytest.mark.parametrize(
    ("term", "found"),
    [
        (torch.tensor(3), "torch.int64"),
        (torch.tensor(True), "torch.bool"),
        (torch.tensor(1 + 2j), "torch.complex64"),
        (torch.ones((), device="meta"), "on meta"),
        (np.float64(5.0), "float64"),
        (np.array(5.0), "an array"),
        (torch.ones(1), r"\(1,\)"),
        (None, "NoneType"),
    ],
)
def test_extra_terms_that_are_no_numbers(toy_data: GZSLData, term: Any, found: str) -> None:
    class Terms:
        @hookimpl
        def d3_extra_terms(self) -> Any:
            return {"mine": term}

    d3 = attach(ScriptHost(toy_data), Terms())
    match = f"d3_extra_terms of plugin Terms: 'mine' must be a 0-dim floating tensor.*{found}"
    with pytest.raises(PluginError, match=match):
        d3.loss()


def test_extra_terms_get_copies(toy_data: GZSLData) -> None:
    """Whatever a plugin changes in place, student, teacher, other plugins and log stay."""

    class InPlace:
        @hookimpl
        def d3_extra_terms(self, batch: StepBatch) -> dict[str, Tensor]:
            with torch.no_grad():
                for value in vars(batch).values():
                    if isinstance(value, Tensor):
                        value.zero_()
            batch.num_synthetic = 0
            return {"mine": torch.zeros(())}

    class OutOfPlace:
        @hookimpl
        def d3_extra_terms(self, batch: StepBatch) -> dict[str, Tensor]:
            return {"mine": torch.zeros(())}

    found = []
    for plugin in (InPlace(), OutOfPlace()):
        for order in ((plugin, term_plugin("z", 1.0)), (term_plugin("z", 1.0), plugin)):
            host = ScriptHost(toy_data)
            d3 = attach(host, *order)
            for _ in range(2):
                d3.loss().backward()
            gradients = [p.grad for p in host.net_g.parameters()]
            values = [d3.values[name] for name in sorted(d3.values)]
            found.append([*values, *d3.distiller.state_dict().values(), *gradients])
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


def test_after_step_gets_copies(toy_data: GZSLData) -> None:
    seen: list[dict[str, Tensor]] = []

    class InPlace:
        @hookimpl
        def d3_after_step(self, values: dict[str, Tensor]) -> None:
            for value in values.values():
                value.fill_(7)
            values.clear()

    class Log:
        @hookimpl
        def d3_after_step(self, values: dict[str, Tensor]) -> None:
            seen.append(values)

    d3 = attach(ScriptHost(toy_data), InPlace(), Log(), InPlace())
    d3.loss()
    for value in d3.values.values():
        value.fill_(9)
    assert seen[0].keys() == d3.values.keys()
    assert 7 not in {v.item() for v in (*seen[0].values(), *d3.values.values())}
    assert 9 not in {v.item() for v in (*seen[0].values(), *d3.values.values())}


@pytest.mark.parametrize("form", ["argument", "plugin"])
def test_synthesize_gets_copies(toy_data: GZSLData, form: str) -> None:
    """In place or not, the step, the data and the evaluation are the same."""

    def synthesis(host: ScriptHost, in_place: bool) -> Any:
        def synthesize(class_ids: Tensor, attributes: Tensor) -> Tensor:
            rows = host.net_g(torch.randn_like(attributes), attributes.clone())
            if in_place:
                class_ids.zero_()
                attributes.zero_()
            return rows

        class Plugin:
            @hookimpl
            def d3_synthesize_features(self, host: Host, class_ids: Tensor) -> Tensor:
                return synthesize(class_ids, host.data.attributes[class_ids])

        return {"synthesize": synthesize} if form == "argument" else {"plugins": [Plugin()]}

    found = []
    for in_place in (False, True):
        host = ScriptHost(toy_data)
        before = toy_data.unseen_classes.clone(), toy_data.attributes.clone()
        d3 = toys.attach(host, **synthesis(host, in_place))
        d3.loss()
        scores = torch.from_numpy(d3.evaluate().scores)
        found.append([*d3.values.values(), *d3.distiller.state_dict().values(), scores])
        assert all(map(torch.equal, before, (host.data.unseen_classes, host.data.attributes)))
    assert all(map(torch.equal, *found))
