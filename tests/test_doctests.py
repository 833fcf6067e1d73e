"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from types import ModuleType

import pytest

import d3_plugin
import d3_plugin.functional
import d3_plugin.losses


def submodules(package: ModuleType) -> list[str]:
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [package.__name__, *(module.name for module in found)]


MODULES = ["d3_plugin", *submodules(d3_plugin.functional), *submodules(d3_plugin.losses)]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_there_are_examples_to_run():
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = [test for name in MODULES for test in finder.find(importlib.import_module(name))]
    with_examples = {test.name for test in tests if test.examples}
    assert "d3_plugin" in with_examples
    assert "d3_plugin.functional.scores.id_score" in with_examples
    assert "d3_plugin.losses.id2sd.ID2SDLoss" in with_examples
