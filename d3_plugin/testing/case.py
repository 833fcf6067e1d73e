"""What the kit checks, and the state it looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import pluggy
import torch
from torch import Tensor, nn

from d3_plugin.data import GZSLData
from d3_plugin.errors import AdapterError, InputError, Problems
from d3_plugin.hooks.manager import make_manager
from d3_plugin.hosts.describe import describe_trainer
from d3_plugin.hosts.host import Host
from d3_plugin.hosts.isolation import RandomStream, buffers_kept

HOOK = "d3_synthesize_features"
ROWS = 20


class TrainedHost(NamedTuple):
    """A trainer after ``fit()``, as its adapter describes it, and the plugins asked."""

    trainer: Any
    host: Host
    manager: pluggy.PluginManager


@dataclass(frozen=True, eq=False)
class AdapterCase:
    """An adapter to be checked.

    Attributes:
        build: ``(data, seed) -> trainer``, new in every call and so small that its ``fit()`` takes
            a second at most; the same seed gives the same trainer. It is called and trained under
            seeded global random streams.
        data: a GZSL problem with two or more unseen classes, in the scale that the trainer takes;
            ``d3_plugin.data.load("digits-1").scaled()`` will do.
        plugins: the adapter's hooks, if it is not installed.
        family_settings: changes to the defaults of the host family named like the ``Host``, with
            which its ``fit()`` is quick. Needed if there is such a family.

    Raises:
        InputError: an attribute is not that; lists all.
    """

    build: Callable[[GZSLData, int], Any]
    data: GZSLData
    plugins: tuple[object, ...] = ()
    family_settings: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        problems = Problems("AdapterCase")
        problems.check(
            callable(self.build), f"build must be a function (data, seed), got {self.build!r}"
        )
        if problems.check(
            isinstance(self.data, GZSLData), f"data must be GZSLData, got {type(self.data)}"
        ):
            number = len(self.data.unseen_classes)
            problems.check(number > 1, f"data must have 2 or more unseen classes, got {number}")
        problems.raise_as(InputError)

    def trained(self) -> TrainedHost:
        """A new trainer, trained: some are not ready to synthesise before.

        Raises:
            HostError: no plugin knows the trainer.
        """
        with seeded(0):
            trainer = self.build(self.data, 0)
            trainer.fit()
        manager = make_manager(self.plugins)
        return TrainedHost(trainer, describe_trainer(manager, trainer), manager)


def seeded(seed: int) -> AbstractContextManager[None]:
    """Every global random stream starts anew from ``seed`` within, and goes on as before after."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return RandomStream(seed, torch.device(device), "adapter kit")


def unseen_ids(ready: TrainedHost) -> Tensor:
    """Class ids (``ROWS``,) that take turns among the unseen classes."""
    return ready.host.data.unseen_classes.repeat(ROWS)[:ROWS]


def rows_of(ready: TrainedHost, ids: Tensor, differentiable: bool, seed: int = 0) -> Tensor:
    """Rows as D³ asks for them: one per class id, under ``no_grad`` where none is wanted.

    Raises:
        AdapterError: something else came back.
    """
    host = ready.host
    with seeded(seed), buffers_kept(host.modules), torch.set_grad_enabled(differentiable):
        rows = ready.manager.hook.d3_synthesize_features(
            host=host, class_ids=ids, differentiable=differentiable
        )
    expected = (len(ids), host.data.feature_dim)
    if isinstance(rows, Tensor) and rows.shape == expected:
        return rows
    got = f"shape {tuple(rows.shape)}" if isinstance(rows, Tensor) else str(type(rows))
    raise AdapterError(
        f"{HOOK}(differentiable={differentiable}) returns {got}, expected a tensor {expected}; "
        "return one row in the space of host.data for each class id"
    )


def modules_of(trainer: Any, host: Host) -> dict[str, nn.Module]:
    """Every module of a host by name: the trainer's attributes, and what ``Host`` lists beside."""
    if isinstance(trainer, nn.Module):
        return {"trainer": trainer}
    attributes = getattr(trainer, "__dict__", {})
    found = {name: value for name, value in attributes.items() if isinstance(value, nn.Module)}
    known = {id(part) for module in found.values() for part in module.modules()}
    for number, module in enumerate(host.modules):
        if id(module) not in known:
            found[f"Host.modules[{number}]"] = module
    return found


def state_of(modules: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Values, gradients, flags and modes of the modules, each by a name for messages."""
    parameters = [each for name, m in modules.items() for each in m.named_parameters(name)]
    buffers = [each for name, m in modules.items() for each in m.named_buffers(name)]
    parts = [each for name, m in modules.items() for each in m.named_modules(prefix=name)]
    gradients = [(key, parameter.grad) for key, parameter in parameters]
    return {
        **{f"parameter {key}": parameter.detach().clone() for key, parameter in parameters},
        **{f"buffer {key}": buffer.detach().clone() for key, buffer in buffers},
        **{f"requires_grad of {key}": parameter.requires_grad for key, parameter in parameters},
        **{f".grad of {key}": None if g is None else g.clone() for key, g in gradients},
        **{f"train/eval mode of {key}": part.training for key, part in parts},
    }


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The names of what is not the same in both, or in one only."""
    return [n for n in {**before, **after} if not same(before.get(n), after.get(n))]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    return type(one) is type(other) and bool(one == other)


def listed(names: list[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
