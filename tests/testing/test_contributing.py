"""What CONTRIBUTING.md shows works as it stands there."""

from __future__ import annotations

import re
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from d3_plugin.data import GZSLData
from d3_plugin.testing import ADAPTER_CHECKS, AdapterCase
from tests.testing.tiny_adapter import TinyTrainer

PAGE = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"


class MyTrainer(TinyTrainer):
    """With the names that the page uses."""

    def __init__(self, data: GZSLData, steps: int, seed: int) -> None:
        super().__init__(data, seed, steps)

    @property
    def net(self) -> torch.nn.Module:
        return self.generator


def test_snippets_make_an_adapter_that_passes_the_kit(
    toy_data: GZSLData, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks_text, test_text = re.findall(r"(?s) +```python\n(.*?) +```", PAGE.read_text("utf-8"))
    package: Any = types.ModuleType("my_package")
    package.MyTrainer = MyTrainer
    monkeypatch.setitem(sys.modules, "my_package", package)
    hooks: Any = types.ModuleType("my_package.hooks")
    hooks.MyTrainer = MyTrainer
    exec(textwrap.dedent(hooks_text), vars(hooks))
    test: dict[str, Any] = {}
    exec(textwrap.dedent(test_text), test)
    # The page's hooks are not installed, and its data would take longer.
    test["case"] = AdapterCase(test["case"].build, toy_data, plugins=(hooks,))
    for check in ADAPTER_CHECKS:
        test["test_adapter"](check)
