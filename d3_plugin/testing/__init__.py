"""The adapter kit: what every adapter must do, as checks for pytest or for a plain call.

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

``check_adapter(case)`` runs them all, without pytest, and reports every failure in one error. The
checks keep no state, and leave the global random streams as they were.
"""

from d3_plugin.testing.case import AdapterCase
from d3_plugin.testing.classifier_check import check_classifier
from d3_plugin.testing.family_check import check_family
from d3_plugin.testing.host_checks import check_description, check_other_hosts
from d3_plugin.testing.kit import ADAPTER_CHECKS, check_adapter
from d3_plugin.testing.synthesis_checks import (
    check_synthesis_finite,
    check_synthesis_form,
    check_synthesis_gradient,
    check_synthesis_leaves_host,
    check_synthesis_order,
    check_synthesis_seed,
)
from d3_plugin.testing.training_checks import check_training, check_weight_zero

__all__ = [
    "ADAPTER_CHECKS",
    "AdapterCase",
    "check_adapter",
    "check_classifier",
    "check_description",
    "check_family",
    "check_other_hosts",
    "check_synthesis_finite",
    "check_synthesis_form",
    "check_synthesis_gradient",
    "check_synthesis_leaves_host",
    "check_synthesis_order",
    "check_synthesis_seed",
    "check_training",
    "check_weight_zero",
]
