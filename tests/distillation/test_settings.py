"""Presets of the settings, and what they refuse."""

from __future__ import annotations

import pytest

from d3_plugin import D3Settings, InputError
from d3_plugin.experiments import CompareOptions


def test_end_to_end_is_a_share_of_the_gradient() -> None:
    assert D3Settings.end_to_end() == D3Settings(weight=1e-4, gradient_share=0.03)
    assert D3Settings.end_to_end(share=0.1, temperature=2.0).gradient_share == 0.1
    assert CompareOptions(preset="end-to-end").d3_settings == D3Settings.end_to_end()
    changed = CompareOptions(preset="end-to-end", d3={"gradient_share": 0.01})
    assert changed.d3_settings.gradient_share == 0.01


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, "3 %", float("nan")])
def test_shares_out_of_range(share: float) -> None:
    with pytest.raises(InputError, match="gradient_share must be a finite number, at least 0 and"):
        D3Settings.end_to_end(share)


def test_a_share_needs_a_weight_to_start_from() -> None:
    with pytest.raises(InputError, match=r"weight must be above 0.*D3Settings.end_to_end\(\)"):
        D3Settings(gradient_share=0.03)
