"""Describes a host: from a trainer object by hook, or from the parts of a script."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pluggy
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from d3_plugin.data import GZSLData
from d3_plugin.data.host_data import as_gzsl_data
from d3_plugin.distributed import unwrapped
from d3_plugin.errors import D3Warning, HostError
from d3_plugin.hooks.defaults import UserHooks
from d3_plugin.hooks.manager import bind
from d3_plugin.hosts.call_form import Synthesis
from d3_plugin.hosts.host import Host, Scorer

PLAIN_CONTAINER = (
    "networks in a plain dict or list belong to no module. Pass the one that makes the features as "
    "generator= and the others as modules=, or hold them in nn.ModuleDict or nn.ModuleList"
)


def describe(
    manager: pluggy.PluginManager,
    trainer: Any,
    generator: nn.Module | None,
    optimizer: Any,
    data: Any,
    *,
    only_scored: bool = False,
) -> Host:
    """A host from a trainer that a plugin knows, or from the parts of a script.

    Args:
        manager: the plugins; those that describe other hosts are unregistered.
        trainer, generator, optimizer, data: as for ``attach``.
        only_scored: a script's generator is not trained and needs no optimiser.

    Raises:
        HostError: nothing knows the trainer, parts are missing or given twice, or the generator has
            no parameters.
    """
    if trainer is not None:
        if generator is not None or optimizer is not None:
            raise HostError("give a trainer, or a script's generator= and other parts, not both")
        return describe_trainer(manager, trainer, data)
    if generator is None or data is None or (not optimizer and not only_scored):
        parts = "generator= and data=" if only_scored else "generator=, optimizer= and data="
        raise HostError(f"{'this' if only_scored else 'attach()'} needs a trainer, or {parts}")
    if next(generator.parameters(), None) is None:
        raise HostError(f"the generator has no parameters: {PLAIN_CONTAINER}")
    bind(manager, None)
    first = optimizer[0] if isinstance(optimizer, list) else optimizer
    if first is None:  # every host has one
        first = torch.optim.SGD(generator.parameters(), lr=0.0)
    host = Host("script", generator, first, as_gzsl_data(data))
    host.data = host.data.to(host.device)
    return host


def take_arguments(
    manager: pluggy.PluginManager,
    host: Host,
    *,
    noise_dim: int | None,
    synthesize: Synthesis | None,
    modules: Iterable[nn.Module] | dict[str, nn.Module],
    transform_features: Callable[[Tensor], Tensor] | None,
    train_classifier: Callable[[Tensor, Tensor, int], Scorer] | None,
    synthetic_per_class: int | None,
    **_: Any,
) -> None:
    """Apply these arguments of ``attach``, which take precedence over the plugins' answers."""
    host.generator = unwrapped(host.generator)
    modules = modules.values() if isinstance(modules, dict) else modules
    host.modules = tuple(unwrapped(module) for module in (*host.modules, *modules))
    host.synthetic_per_class = synthetic_per_class or host.synthetic_per_class
    if noise_dim is not None:
        host.noise_dim = noise_dim
        synthesize = synthesize or host.from_noise
    manager.register(
        UserHooks(synthesize, transform_features, train_classifier), "arguments of attach"
    )


def describe_trainer(manager: pluggy.PluginManager, trainer: Any, data: Any = None) -> Host:
    """The host that a plugin recognises, with its data on the generator's device.

    Args:
        manager: the plugins; of those that describe hosts, only the one that knows this trainer
            stays registered.
        trainer: the trainer object.
        data: the user's data, used instead of the trainer's.

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
        host.data = _user_data(host.data, data)
    host.data = host.data.to(host.device)
    return host


def _user_data(own: GZSLData, data: Any) -> GZSLData:
    """The user's data, which must be of the same problem as the trainer's own."""
    given = as_gzsl_data(data)
    problem, other = (
        (each.seen_classes.tolist(), each.unseen_classes.tolist(), each.feature_dim)
        for each in (own, given)
    )
    if problem != other:
        raise HostError(
            f"data= ({given.name}) has other classes or another feature width than the trainer's "
            f"own ({own.name}); leave data= out"
        )
    if not torch.equal(own.train_features.cpu(), given.train_features.cpu()):
        warnings.warn(
            f"data= ({given.name}) has other training features than the trainer's own "
            f"({own.name}): is one of them not scaled?",
            D3Warning,
            stacklevel=5,
        )
    return given


def bare_optimizers(given: Any) -> Any:
    """An optimiser, or a list of them, without the wrappers of accelerate and Lightning."""
    if isinstance(given, (list, tuple, Iterator)):
        return [bare_optimizers(each) for each in given]
    return getattr(given, "optimizer", given)  # what they wrap; they have no step hooks


def check_optimizers(host: Host, optimizers: Sequence[Optimizer]) -> None:
    """Check that the optimisers step every trainable parameter of the generator.

    Raises:
        HostError: they do not; names the missing parameters.
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
