"""Describes a host: from a trainer object by hook, or from the parts of a script."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pluggy
import torch

from d3_plugin.data import GZSLData
from d3_plugin.data.host_data import as_gzsl_data
from d3_plugin.distributed import unwrapped
from d3_plugin.errors import HostError, warn
from d3_plugin.hooks.manager import bind, make_manager
from d3_plugin.hooks.user_functions import UserHooks
from d3_plugin.hosts.host import Host
from d3_plugin.hosts.host_parts import ScriptParts
from d3_plugin.hosts.isolation import plain_pytorch


def host_of(
    parts: ScriptParts,
    trainer: Any = None,
    plugins: Iterable[object] = (),
    *,
    strict_plugins: bool = False,
) -> tuple[Host, pluggy.HookRelay]:
    """The host that has these parts, and its hooks, which ask the user's functions first.

    Args:
        parts: what the user says of the host.
        trainer: that of a host which is no script.
        plugins, strict_plugins: see :func:`d3_plugin.attach`.

    Raises:
        HostError: nothing knows the trainer, or the data are of another problem than the trainer's.
        PluginError: a plugin is invalid.
    """
    with plain_pytorch():
        manager = make_manager(plugins, strict=strict_plugins)
        if parts.generator is None:
            host = describe_trainer(manager, trainer, parts.data)
        else:
            bind(manager, None)
            optimizers = parts.optimizers or [torch.optim.SGD(parts.generator.parameters(), lr=0.0)]
            host = Host("script", parts.generator, optimizers[0], as_gzsl_data(parts.data))
            host.data = host.data.to(host.device)
    host.modules += tuple(map(unwrapped, parts.other_modules))
    host.synthetic_per_class = parts.synthetic_per_class or host.synthetic_per_class
    if parts.noise_dim is not None or parts.noise is not None:
        host.noise_dim, host.noise = parts.noise_dim or host.noise_dim, parts.noise
    manager.register(users_functions(parts, host), "functions of the user")
    return host, manager.hook


def users_functions(parts: ScriptParts, host: Host) -> UserHooks:
    """The functions that a user gives; what is said of the noise asks for D³'s own synthesis."""
    synthesize = parts.synthesize
    if parts.noise_dim is not None or parts.noise is not None:
        synthesize = synthesize or host.from_noise
    return UserHooks(
        synthesize, parts.transform_features, parts.train_classifier, parts.classifier_labels
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
        warn(
            f"data= ({given.name}) has other training features than the trainer's own "
            f"({own.name}): is one of them not scaled?"
        )
    return given
