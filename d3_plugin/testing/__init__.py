"""The adapter kit: checks that every adapter must pass, with or without pytest.

In the tests of an adapter::

    import pytest
    from d3_plugin.data import load
    from d3_plugin.testing import ADAPTER_CHECKS, AdapterCase

    case = AdapterCase(
        lambda data, seed: MyTrainer(data, steps=4, seed=seed), load("digits-1").scaled()
    )

    @pytest.mark.parametrize("check", ADAPTER_CHECKS)
    def test_adapter(check):
        check(case)

``check_adapter(case)`` runs them without pytest and reports every failure in one error. Checks are
independent and leave the global random streams as they were.
"""

from d3_plugin.errors import AdapterError, Problems
from d3_plugin.testing.case import AdapterCase
from d3_plugin.testing.checks import (
    CHECKS,
    check_classifier,
    check_description,
    check_family,
    check_synthesis_finite,
    check_synthesis_form,
    check_synthesis_gradient,
    check_synthesis_leaves_host,
    check_synthesis_order,
    check_synthesis_seed,
    check_training,
    check_weight_zero,
)

__all__ = [
    "ADAPTER_CHECKS",
    "AdapterCase",
    "check_adapter",
    "check_classifier",
    "check_description",
    "check_family",
    "check_synthesis_finite",
    "check_synthesis_form",
    "check_synthesis_gradient",
    "check_synthesis_leaves_host",
    "check_synthesis_order",
    "check_synthesis_seed",
    "check_training",
    "check_weight_zero",
]

ADAPTER_CHECKS = tuple(CHECKS)
"""Every check, for ``pytest.mark.parametrize``; each raises :class:`AdapterError`."""


def check_adapter(case: AdapterCase) -> None:
    """Run all checks, also after a failure.

    Args:
        case: the adapter and how to build a small trainer.

    Raises:
        AdapterError: lists the first problem that each check found.
    """
    problems = Problems("the adapter does not pass the kit")
    for check in ADAPTER_CHECKS:
        try:
            check(case)
        except AdapterError as error:
            problems.add(str(error))
    problems.raise_as(AdapterError)
