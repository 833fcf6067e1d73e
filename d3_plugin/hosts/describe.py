"""Finds out what a host is: from a trainer object by hook, or from the parts of a script."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import pluggy
import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from d3_plugin.data.host_data import as_gzsl_data
from d3_plugin.errors import D3Warning, HostError
from d3_plugin.hooks.manager import bind
from d3_plugin.hosts.host import Host

PLAIN_CONTAINER = (
    "networks in a plain dict or list belong to no module. Pass the one that makes the features as "
    "generator= and the others as modules=, or hold them in nn.ModuleDict or nn.ModuleList"
)


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
            f"no plugin knows a {type(trainer).__name__} (installed: {names}): write one with "
            "d3_describe_host, or pass generator=, optimizer= and data="
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
    optimizer: Any,
    data: Any,
) -> Host:
    """A host from its parts; plugins that describe hosts leave the manager.

    Args:
        manager, generator, data: as for ``attach``.
        optimizer: one or a list.

    Raises:
        HostError: a part is missing, or the generator has no parameters.
    """
    if generator is None or optimizer is None or data is None:
        raise HostError("attach() needs a trainer, or generator=, optimizer= and data=")
    if next(generator.parameters(), None) is None:
        raise HostError(f"the generator has no parameters: {PLAIN_CONTAINER}")
    bind(manager, None)
    first = optimizer[0] if isinstance(optimizer, list) else optimizer
    host = Host("script", generator, first, as_gzsl_data(data))
    host.data = host.data.to(host.device)
    return host


def bare_optimizers(given: Any) -> Any:
    """An optimiser, or a list of them, without the wrappers of accelerate and Lightning."""
    if isinstance(given, (list, tuple)):
        return [bare_optimizers(each) for each in given]
    return getattr(given, "optimizer", given)  # what they wrap; they have no step hooks


def check_optimizers(host: Host, optimizers: Sequence[Optimizer]) -> None:
    """The optimisers step every trainable parameter of the generator.

    Raises:
        HostError: they do not; names those they lack.
    """
    if any(map(is_lazy, host.generator.parameters())):
        raise HostError("the generator has lazy layers: call it once, then make the optimizer")
    owned = {id(p) for each in optimizers for group in each.param_groups for p in group["params"]}
    foreign = [
        name
        for name, parameter in host.generator.named_parameters()
        if parameter.requires_grad and id(parameter) not in owned
    ]
    if foreign:
        advice = "is it the critic's, or was it made before .to()? Several optimizers go in a list"
        if isinstance(host.generator, AveragedModel):
            advice = "attach to the generator, and give its average to evaluate(generator=...)"
        missing = f"{len(foreign)} parameters of the generator ({', '.join(foreign[:5])})"
        raise HostError(f"the optimizer lacks {missing}: {advice}")
