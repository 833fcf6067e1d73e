"""Checks of what an adapter says of hosts: of its own, and of those of others."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from d3_plugin.data import GZSLData
from d3_plugin.errors import AdapterError, HostError, Problems
from d3_plugin.hooks import defaults
from d3_plugin.hooks.manager import make_manager
from d3_plugin.hosts.describe import check_optimizer
from d3_plugin.hosts.host import Host
from d3_plugin.testing.case import AdapterCase, seeded


def check_description(case: AdapterCase) -> None:
    """``d3_describe_host`` knows its trainer and no other object, and its answer hangs together."""
    problems = Problems("check_description")
    describe = make_manager(case.plugins).hook.d3_describe_host
    foreign = object()
    try:
        answer = describe(trainer=foreign)
    except Exception as error:  # whatever a hook does with an object that it does not know
        problems.add(
            f"d3_describe_host raises {type(error).__name__} for an object that is no trainer of "
            f"this adapter ({error}), expected None; ask isinstance(trainer, ...) first"
        )
    else:
        problems.check(
            answer is None,
            "d3_describe_host answers for an object that is no trainer of this adapter, expected "
            "None; ask isinstance(trainer, ...) first",
        )
    with seeded(0):
        trainer = case.build(case.data, 0)
    host = describe(trainer=trainer)
    if isinstance(host, Host):
        _check_parts(host, case.data, problems)
    else:
        problems.add(
            f"d3_describe_host returns {host!r} for {type(trainer).__name__}, expected a Host; is "
            "the plugin installed, or in AdapterCase(plugins=...), and are its functions marked "
            "@hookimpl?"
        )
    problems.raise_as(AdapterError)


def _check_parts(host: Host, data: GZSLData, problems: Problems) -> None:
    if not isinstance(host.generator, nn.Module):
        problems.add(
            f"Host.generator is {type(host.generator)}, expected the module that D³'s gradient "
            "goes to"
        )
        return
    problems.check(
        any(p.requires_grad for p in host.generator.parameters()),
        "Host.generator has no parameter that requires gradient, expected the module that is "
        "trained; name that one",
    )
    problems.check(
        any(host.generator is part for module in host.modules for part in module.modules()),
        "Host.modules lacks the generator, expected every module that synthesis runs through; "
        "leave modules out, or add the generator",
    )
    if isinstance(host.optimizer, torch.optim.Optimizer):
        try:
            check_optimizer(host)
        except HostError as error:
            problems.add(f"Host.optimizer: {error}")
    else:
        problems.add(
            f"Host.optimizer is {type(host.optimizer)}, expected the torch optimizer that steps "
            "the generator"
        )
    if not isinstance(host.data, GZSLData):
        problems.add(f"Host.data is {type(host.data)}, expected GZSLData")
        return
    for part in ("seen_classes", "unseen_classes", "feature_dim"):
        given, described = (
            value.tolist() if isinstance(value, torch.Tensor) else value
            for value in (getattr(data, part), getattr(host.data, part))
        )
        problems.check(
            given == described,
            f"Host.data has {part} {described}, expected those of the data the trainer was built "
            f"with, {given}; pass trainer.data on as it is",
        )


def check_other_hosts(case: AdapterCase) -> None:
    """The hooks leave a host of another adapter to others: they answer None."""
    problems = Problems("check_other_hosts")
    manager = make_manager(case.plugins)
    data = case.data
    with seeded(0):
        generator = nn.Linear(data.attributes.shape[1], data.feature_dim)
    host = Host("another host", generator, torch.optim.SGD(generator.parameters(), lr=1.0), data)
    rows, labels = data.train_features, data.train_labels
    ids = data.unseen_classes.repeat(2)
    arguments: dict[str, dict[str, Any]] = {
        "d3_synthesize_features": {"class_ids": ids, "differentiable": False},
        "d3_transform_features": {"features": rows},
        "d3_train_classifier": {
            "features": rows, "labels": labels, "num_classes": data.num_classes
        },
    }  # fmt: skip
    for name, given in arguments.items():
        values = {"host": host, **given}
        for implementation in getattr(manager.hook, name).get_hookimpls():
            # Wrappers see every host by design; the defaults are there to answer.
            wraps = implementation.hookwrapper or implementation.wrapper
            if wraps or implementation.plugin is defaults:
                continue
            remedy = 'begin with: if host.name != "...": return None'
            try:
                with seeded(0), torch.no_grad():
                    answer = implementation.function(*(values[a] for a in implementation.argnames))
            except Exception as error:  # whatever a hook does with a host that it does not know
                problems.add(
                    f"{name} of plugin {implementation.plugin_name} raises "
                    f"{type(error).__name__} for a host of another adapter ({error}), expected "
                    f"None; {remedy}"
                )
                continue
            problems.check(
                answer is None,
                f"{name} of plugin {implementation.plugin_name} answers for a host of another "
                f"adapter, expected None; {remedy}",
            )
    problems.raise_as(AdapterError)
