"""The arguments of the public functions: each stands in one dataclass, and is shown and checked."""

from __future__ import annotations

import inspect
import linecache
import typing
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import d3_plugin
from d3_plugin import D3Settings, D3Warning, HostError
from d3_plugin.data import GZSLData
from d3_plugin.experiments.training_function import LoopTrainer
from tests.toys import SMALL, ScriptHost

OF_LOOPS = {"trainer", "seed", "settings", "plugins", "gather", "strict_plugins", "progress"}
OF_TRAINING = {"optimizer", "mode", "labels_are", "settings", "gather", "strict_plugins"}
SCORED = [d3_plugin.evaluate, d3_plugin.classifier]


def names(function: Callable[..., object]) -> set[str]:
    return set(inspect.signature(function).parameters)


@pytest.mark.parametrize("function", [d3_plugin.attach, *SCORED])
def test_each_argument_has_an_annotation_a_default_and_an_explanation(function: Any) -> None:
    signature, hints = inspect.signature(function), typing.get_type_hints(function)
    assert next(iter(signature.parameters)) == "trainer"
    explained = inspect.getdoc(function) or ""
    for name, parameter in signature.parameters.items():
        assert parameter.annotation is not parameter.empty
        assert parameter.default is not parameter.empty
        by_keyword = parameter.kind is parameter.KEYWORD_ONLY
        assert by_keyword or name == "trainer"
        assert name in explained or function is d3_plugin.classifier
    assert hints.keys() == {*signature.parameters, "return"}
    assert signature.return_annotation == hints["return"].__name__


def test_who_takes_what(toy_data: GZSLData) -> None:
    everything = names(d3_plugin.attach)
    assert names(d3_plugin.evaluate) == everything - OF_TRAINING - {"progress"} | {"draws"}
    assert names(d3_plugin.classifier) == everything - OF_TRAINING - {"progress"}
    trainer = LoopTrainer(lambda d3: None, toy_data, None, 0)
    assert names(trainer.attach) == everything - OF_LOOPS


@pytest.mark.parametrize("function", [d3_plugin.attach, *SCORED])
def test_a_misspelt_argument(function: Any) -> None:
    misspelt = rf"{function.__name__}\(\) has no argument 'generatr'; did you mean 'generator'"
    with pytest.raises(TypeError, match=misspelt):
        function(generatr=nn.Linear(2, 2))


def test_arguments_are_given_by_name(host: ScriptHost, toy_data: GZSLData) -> None:
    with pytest.raises(TypeError, match=r"^attach\(\) takes its arguments by name: too many"):
        d3_plugin.attach(host.net_g, host.optimizer_g, toy_data)  # type: ignore[misc]


def test_no_optimizer_in_whatever_it_would_be(host: ScriptHost, toy_data: GZSLData) -> None:
    with pytest.raises(HostError, match="missing: optimizer="):
        d3_plugin.attach(generator=host.net_g, optimizer=iter(()), data=toy_data)
    with pytest.raises(HostError, match="missing: optimizer="):
        d3_plugin.attach(generator=host.net_g, optimizer=dict[str, Any]().values(), data=toy_data)


@pytest.mark.parametrize("function", SCORED)
def test_what_only_training_needs_is_refused(function: Any, host: ScriptHost) -> None:
    with pytest.raises(TypeError, match=r"no argument 'optimizer'; there are trainer, generator"):
        function(generator=host.net_g, data=host.data, optimizer=host.optimizer_g)
    with pytest.raises(TypeError):
        function(host, host.data)


def test_the_loop_of_a_training_function_is_told_what_is_missing(toy_data: GZSLData) -> None:
    def loop(data: GZSLData, d3: Any) -> None:
        d3.attach(generator=nn.Linear(2, 2))

    with pytest.raises(
        d3_plugin.HostError, match=r"^d3.attach\(\) needs generator= and optimizer=; missing: opt"
    ):
        LoopTrainer(loop, toy_data, None, 0).fit()


class Counting(nn.Module):
    """Counts its calls where D³ cannot restore it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.calls = inner, [0]

    def forward(self, noise: torch.Tensor, attributes: torch.Tensor) -> Any:
        self.calls[0] += 1
        return self.inner(noise, attributes)


def test_warnings_point_at_the_line_of_the_script(host: ScriptHost, toy_data: GZSLData) -> None:
    """However deep inside they are given, and through PyTorch's optimisers and compiler."""
    generator = Counting(host.net_g)
    optimizer = torch.optim.SGD(generator.parameters(), lr=0.1)
    rows, labels = toy_data.train_features[:40], toy_data.train_labels[:40]
    chances = lambda rows, labels, n: nn.Sequential(nn.Linear(12, n), nn.Softmax(1))  # noqa: E731
    parts: dict[str, Any] = {"generator": generator, "data": toy_data}
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", D3Warning)
        d3 = d3_plugin.attach(optimizer=optimizer, settings=SMALL, **parts)
        d3.evaluate()
        d3.classifier()
        d3.calibrate()
        d3_plugin.evaluate(train_classifier=chances, **parts)
        d3_plugin.classifier(train_classifier=chances, **parts)
        with torch.no_grad():
            d3.loss()
        d3.loss(5 * rows, labels)
        strong = D3Settings(weight=20.0, teacher_epochs=1)
        hooked = d3_plugin.attach(optimizer=optimizer, settings=strong, mode="hook", **parts)
        for _ in range(50):
            optimizer.zero_grad()
            optimizer.step()
        hooked.detach()
    given = [w for w in found if issubclass(w.category, D3Warning)]
    assert {w.filename for w in given} == {__file__}
    lines = {linecache.getline(__file__, w.lineno).strip().split("(")[0] for w in given}
    functions = {"d3 = d3_plugin.attach", "d3.evaluate", "d3.classifier", "d3.calibrate"}
    assert lines >= functions | {"d3.loss", "d3_plugin.evaluate", "d3_plugin.classifier"}
    assert "optimizer.step" in lines
