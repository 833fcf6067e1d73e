"""Check of the host family that ``d3 compare`` builds."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any

import torch
from torch import nn

from d3_plugin.checks import setting_problems
from d3_plugin.errors import AdapterError, Problems
from d3_plugin.hooks.manager import host_families, make_manager
from d3_plugin.hosts.host import Host, HostFamily
from d3_plugin.testing.case import AdapterCase, differences, listed, seeded, state_of


def check_family(case: AdapterCase) -> None:
    """``d3 compare --adapter NAME`` can build and train what ``d3_host_families`` offers.

    Nothing is asked of an adapter without a family, unless ``family_settings`` are given.
    """
    problems = Problems("check_family")
    manager = make_manager(case.plugins)
    with seeded(0):
        described = manager.hook.d3_describe_host(trainer=case.build(case.data, 0))
    name = described.name if isinstance(described, Host) else None
    family = host_families(manager).get(name) if name else None
    if family is None:
        problems.check(
            case.family_settings is None,
            f"family_settings are given, but d3_host_families offers none named {name!r} like the "
            "Host; name the family like the host",
        )
    elif case.family_settings is None:
        problems.add(
            f"d3_host_families offers {name!r}, but family_settings are not given; give "
            "AdapterCase the changes of its settings with which fit() is quick"
        )
    elif _check_settings(family, dict(case.family_settings), problems):
        _check_build(family, family.settings(**case.family_settings), case, problems)
    problems.raise_as(AdapterError)


def _check_settings(family: HostFamily, changes: dict[str, Any], problems: Problems) -> bool:
    """Whether the family can be built with these changes."""
    settings = family.settings
    if not (isinstance(settings, type) and is_dataclass(settings)):
        problems.add(
            f"HostFamily.settings is {settings!r}, expected a class marked "
            "@dataclass(frozen=True) with a default for every field"
        )
        return False
    frozen = settings.__dataclass_params__.frozen  # type: ignore[attr-defined]
    problems.check(frozen, f"{settings.__name__} can be changed, expected @dataclass(frozen=True)")
    without = [f.name for f in fields(settings) if f.default is f.default_factory is MISSING]
    problems.check(
        not without,
        f"{settings.__name__} has no default for {', '.join(without)}, expected one for every "
        "field: d3 compare must run without options",
    )
    misfits = setting_problems("", settings, changes).found
    for misfit in misfits:
        problems.add(f"family_settings: {misfit}")
    return not misfits and not set(without) - changes.keys()


def _check_build(family: HostFamily, settings: Any, case: AdapterCase, problems: Problems) -> None:
    try:
        json.dumps(asdict(settings))
    except TypeError as error:
        problems.add(
            f"settings {settings} cannot be written to results.json ({error}); use numbers, "
            "strings, booleans and None"
        )
    starts = []
    for stream in (0, 1):  # as in d3 compare, where other things have drawn before
        with seeded(stream):
            trainer = family.build(case.data, settings, 0, torch.device("cpu"))
        generator = getattr(trainer, "generator", None)
        if isinstance(generator, nn.Module):
            starts.append(state_of({"generator": generator}))
    if len(starts) < 2:
        problems.add(
            f"build returns a {type(trainer).__name__} without a module named generator, expected "
            "one: d3 compare shows with it that a pair starts alike"
        )
        return
    changed = differences(*starts)
    problems.check(
        not changed,
        f"build with the same seed starts from another generator ({listed(changed)}), expected the "
        "same one: with and without D³ are compared as a pair; seed PyTorch in build",
    )
    host = make_manager(case.plugins).hook.d3_describe_host(trainer=trainer)
    problems.check(
        isinstance(host, Host) and host.generator is trainer.generator,
        f"d3_describe_host does not describe what build returns, a {type(trainer).__name__}, with "
        "its .generator as Host.generator; both must name the same module",
    )
    with seeded(0):
        trainer.fit()
    history = getattr(trainer, "history", None)
    numbers = (
        isinstance(history, list)
        and bool(history)
        and all(isinstance(entry, dict) and "step" in entry for entry in history)
        and all(isinstance(value, (int, float)) for entry in history for value in entry.values())
    )
    problems.check(
        numbers,
        f"trainer.history after fit() is {str(history)[:80]}, expected a list of dicts with "
        '"step" and mean losses as plain numbers, such as {"step": 10, "critic": 0.3}',
    )
