"""The adapter kit on the CVAE, which must be installed."""

from typing import Any

import pytest
from cvae_gzsl import CVAESettings, CVAETrainer

from d3_plugin.data import load
from d3_plugin.testing import ADAPTER_CHECKS, AdapterCase

SMALL: dict[str, Any] = {"steps": 4, "hidden": 16, "latent": 4, "synthetic_per_class": 10}
CASE = AdapterCase(
    lambda data, seed: CVAETrainer(data, CVAESettings(**SMALL), seed=seed),
    load("digits-1").scaled(),
    family_settings=SMALL,
)


@pytest.mark.parametrize("check", ADAPTER_CHECKS)
def test_adapter(check: Any) -> None:
    check(CASE)
