"""The kit passes good adapters, and each of its checks catches what it is there for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pytest
import torch

from d3_adapters.diffusion import DiffusionSettings, DiffusionTrainer
from d3_adapters.fclswgan import FCLSWGANSettings, FCLSWGANTrainer
from d3_adapters.tfvaegan import TFVAEGANSettings, TFVAEGANTrainer
from d3_plugin import D3Error, InputError
from d3_plugin.data import GZSLData
from d3_plugin.errors import AdapterError
from d3_plugin.testing import ADAPTER_CHECKS, AdapterCase, check_adapter
from tests.testing import broken_training
from tests.testing.broken_adapters import BROKEN, Broken
from tests.testing.tiny_adapter import TinyHooks

TINY = {
    "steps": 4, "batch_size": 40, "hidden": 16, "synthetic_per_class": 10, "classifier_epochs": 2
}  # fmt: skip
BUILT_IN: dict[str, tuple[type[Any], type[Any]]] = {
    "diffusion": (DiffusionTrainer, DiffusionSettings),
    "fclswgan": (FCLSWGANTrainer, FCLSWGANSettings),
    "tfvaegan": (TFVAEGANTrainer, TFVAEGANSettings),
}


def tiny_case(data: GZSLData, hooks: type[TinyHooks] = TinyHooks) -> AdapterCase:
    plugin = hooks()
    return AdapterCase(plugin.build, data, (plugin,), plugin.family_settings)


@pytest.mark.parametrize("check", ADAPTER_CHECKS)
@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_adapters_pass(toy_data: GZSLData, name: str, check: Any) -> None:
    trainer, settings = BUILT_IN[name]
    check(
        AdapterCase(
            lambda data, seed: trainer(data, settings(**TINY), seed=seed),
            toy_data,
            family_settings=TINY,
        )
    )


def test_good_adapter_passes_and_no_stream_moves(toy_data: GZSLData) -> None:
    before = torch.get_rng_state()
    check_adapter(tiny_case(toy_data))
    assert torch.equal(before, torch.get_rng_state())


EVERY_FAULT = pytest.mark.parametrize("fault", BROKEN, ids=lambda fault: fault.hooks.__name__)


def failures(data: GZSLData, fault: Broken, checks: Iterable[Any]) -> dict[str, Exception]:
    """The errors of these checks, by name."""
    failed = {}
    for check in checks:
        try:
            check(tiny_case(data, fault.hooks))
        except Exception as error:
            failed[check.__name__] = error
    return failed


@EVERY_FAULT
def test_fault_is_caught_by_its_check(toy_data: GZSLData, fault: Broken) -> None:
    (check,) = (each for each in ADAPTER_CHECKS if each.__name__ == fault.check)
    error = failures(toy_data, fault, [check]).get(fault.check)
    assert isinstance(error, AdapterError)
    assert re.search(rf"(?s)^{fault.check}: .*{fault.says}", str(error))


@pytest.mark.slow
@EVERY_FAULT
def test_fault_fails_no_check_without_reason(toy_data: GZSLData, fault: Broken) -> None:
    assert failures(toy_data, fault, ADAPTER_CHECKS).keys() == {fault.check, *fault.also}


def test_every_check_has_a_fault() -> None:
    assert broken_training.__name__ in {fault.hooks.__module__ for fault in BROKEN}
    assert {check.__name__ for check in ADAPTER_CHECKS} == {fault.check for fault in BROKEN}


def test_all_failures_come_in_one_error(toy_data: GZSLData) -> None:
    class Twice(TinyHooks):
        family = "other"

        def rows(self, trainer: Any, *arguments: Any) -> Any:
            trainer.generator[0].weight.requires_grad_(arguments[1])
            return super().rows(trainer, *arguments)

        def classify(self, *arguments: Any) -> Any:
            raise KeyError("no classifier")

    with pytest.raises(D3Error) as caught:
        check_adapter(tiny_case(toy_data, Twice))
    text = str(caught.value)
    assert isinstance(caught.value, AssertionError)
    assert text.startswith("the adapter does not pass the kit: 4 problems:\n")
    assert "check_synthesis_leaves_host: differentiable=False in train mode changes" in text
    assert "check_classifier: KeyError: 'no classifier'" in text
    assert "check_weight_zero: D³ at weight 0 changes the result of training: " in text
    assert "check_family: family None, family_settings" in text


def test_case_says_all_that_is_wrong_with_it(toy_data: GZSLData) -> None:
    with pytest.raises(InputError, match=r"(?s)2 problems.*build must be a function.*GZSLData"):
        AdapterCase("TinyTrainer", None)  # type: ignore[arg-type]
