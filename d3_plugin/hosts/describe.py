"""Finds out what a host is: from a trainer object by hook, or from the parts of a script."""

from __future__ import annotations

import warnings
from typing import Any

import pluggy
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from d3_plugin.data.host_data import as_gzsl_data
from d3_plugin.errors import D3Warning, HostError
from d3_plugin.hooks.manager import bind
from d3_plugin.hosts.host import Host


def describe_trainer(manager: pluggy.PluginManager, trainer: Any, data: Any = None) -> Host:
    """The host that a plugin recognises, with its data on the generator's device.

    Args:
        manager: the plugins; of those that describe hosts, only the one that knows this trainer
            stays in it.
        trainer: the trainer object.
        data: the user's data, to be used instead of the trainer's.

    Raises:
        HostError: no plugin knows the trainer, or ``data`` is another problem than the trainer's.
    """
    names = ", ".join(sorted(name for name, _ in manager.list_name_plugin()))
    host = bind(manager, trainer)
    if host is None:
        raise HostError(
            f"no plugin knows a {type(trainer).__name__} (installed: {names}); pass generator=, "
            "optimizer= and data= instead, or write a plugin with d3_describe_host"
        )
    if data is not None:
        _replace_data(host, data)
    host.data = host.data.to(host.device)
    return host


def _replace_data(host: Host, data: Any) -> None:
    own, given = host.data, as_gzsl_data(data)
    same_problem = (
        own.seen_classes.tolist() == given.seen_classes.tolist()
        and own.unseen_classes.tolist() == given.unseen_classes.tolist()
        and own.feature_dim == given.feature_dim
    )
    if not same_problem:
        raise HostError(
            f"data= ({given.name}) has other classes or another feature width than the trainer's "
            f"own ({own.name}); leave data= out"
        )
    if not torch.equal(own.train_features.cpu(), given.train_features.cpu()):
        warnings.warn(
            f"data= ({given.name}) has other training features than the trainer's own "
            f"({own.name}): is one of them not scaled?",
            D3Warning,
            stacklevel=4,
        )
    host.data = given


def describe_script(
    manager: pluggy.PluginManager,
    generator: nn.Module | None,
    optimizer: torch.optim.Optimizer | None,
    data: Any,
) -> Host:
    """A host from its parts; plugins that describe hosts leave the manager.

    Raises:
        HostError: a part is missing.
    """
    parameter = None if generator is None else next(generator.parameters(), None)
    if generator is None or parameter is None or optimizer is None or data is None:
        raise HostError("attach() takes a trainer, or generator= with parameters, optimizer=, data")
    bind(manager, None)
    host = Host("script", generator, optimizer, as_gzsl_data(data))
    host.data = host.data.to(host.device)
    return host


def check_optimizer(host: Host) -> None:
    """The optimiser steps every trainable parameter of the generator.

    Raises:
        HostError: it does not; names those it lacks.
    """
    if any(map(is_lazy, host.generator.parameters())):
        raise HostError("the generator has lazy layers: call it once, then make the optimizer")
    owned = {id(p) for group in host.optimizer.param_groups for p in group["params"]}
    foreign = [
        name
        for name, parameter in host.generator.named_parameters()
        if parameter.requires_grad and id(parameter) not in owned
    ]
    if foreign:
        raise HostError(
            f"the optimizer lacks {len(foreign)} parameters of the generator "
            f"({', '.join(foreign[:5])}): is it the critic's, or was it made before .to()?"
        )
