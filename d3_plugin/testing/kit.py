"""All checks of an adapter, and one call that runs them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from d3_plugin.errors import AdapterError, Problems
from d3_plugin.testing.case import AdapterCase
from d3_plugin.testing.classifier_check import check_classifier
from d3_plugin.testing.family_check import check_family
from d3_plugin.testing.host_checks import check_description, check_other_hosts
from d3_plugin.testing.synthesis_checks import (
    check_synthesis_finite,
    check_synthesis_form,
    check_synthesis_gradient,
    check_synthesis_leaves_host,
    check_synthesis_order,
    check_synthesis_seed,
)
from d3_plugin.testing.training_checks import check_training, check_weight_zero

ADAPTER_CHECKS: tuple[Callable[[AdapterCase], None], ...] = (
    check_description,
    check_synthesis_form,
    check_synthesis_order,
    check_synthesis_finite,
    check_synthesis_seed,
    check_synthesis_gradient,
    check_synthesis_leaves_host,
    check_classifier,
    check_weight_zero,
    check_training,
    check_other_hosts,
    check_family,
)
"""Every check, for ``pytest.mark.parametrize``; each raises :class:`AdapterError` on its own."""


def check_adapter(case: AdapterCase) -> None:
    """Run every check, whatever the ones before it said.

    Args:
        case: the adapter and how to build a small trainer of it.

    Raises:
        AdapterError: lists what every check found.
    """
    problems = Problems("the adapter does not pass the kit")
    for check in ADAPTER_CHECKS:
        try:
            check(case)
        except AdapterError as error:
            problems.add(textwrap.indent(str(error), "    ").strip())
        except Exception as error:  # whatever the adapter's own code raises
            name = getattr(check, "__name__", repr(check))
            problems.add(
                f"{name}: the adapter raised {type(error).__name__}: {error} "
                f"(d3_plugin.testing.{name}(case) alone shows where)"
            )
    problems.raise_as(AdapterError)
