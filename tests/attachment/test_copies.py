"""Everything public survives pickle, ``copy.deepcopy`` and ``state_dict``, or says what to do."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import d3_plugin
from d3_adapters.fclswgan import hooks
from d3_plugin import (
    D3,
    D3Settings,
    Host,
    HostError,
    HostFamily,
    ID2SDLoss,
    O2DBDLoss,
    StepBatch,
)
from d3_plugin.data import GZSLData
from d3_plugin.distillation.networks import EmbeddingClassifier
from tests.toys import SMALL, ScriptHost, assert_equal, attach

Copy = Callable[[Any], Any]
COPIES: dict[str, Copy] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
}
copied = pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
SEEN = torch.tensor([0, 2])


def script_host(data: GZSLData) -> Host:
    """Without ``tests.script_host``'s spectral norm, which PyTorch itself does not pickle."""
    generator = nn.Sequential(nn.Linear(5, 12), nn.BatchNorm1d(12))
    optimizer = torch.optim.Adam(generator.parameters())
    generator(data.attributes).sum().backward()
    optimizer.step()  # it has a state
    return Host("script", generator, optimizer, data)


def step_batch(data: GZSLData) -> StepBatch:
    d3 = attach(ScriptHost(data))
    with torch.no_grad():
        return d3.distiller.batch(
            data.train_features[:3], data.train_features[3:7], data.train_labels[:7]
        )


# Of every public class: a way to make one, and what a copy must have in common with it.
MADE: dict[type, Callable[[GZSLData], Any]] = {
    D3Settings: lambda _: D3Settings.released(weight=0.5),
    Host: script_host,
    HostFamily: lambda _: hooks.d3_host_families()[0],
    ID2SDLoss: lambda _: ID2SDLoss(SEEN, kl_weight=0.3, gather=True),
    O2DBDLoss: lambda _: O2DBDLoss(3, SEEN, score="energy", gather=True),
    StepBatch: step_batch,
}
UNCOPIED = {D3}


def contents(value: Any) -> Any:
    """Comparable: tensors as lists, modules by state and options."""
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, nn.Module):
        options = {k: v for k, v in vars(value).items() if isinstance(v, (int, float, str))}
        return repr(value), options, contents(dict(value.state_dict()))
    if isinstance(value, torch.optim.Optimizer):
        return contents(value.state_dict())
    if isinstance(value, dict):
        return {k: contents(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [contents(v) for v in value]
    if hasattr(value, "__dataclass_fields__"):
        return {f.name: contents(getattr(value, f.name)) for f in fields(value)}
    return value


def test_every_public_class_is_looked_at() -> None:
    public = {getattr(d3_plugin, name) for name in d3_plugin.__all__}
    classes = {c for c in public if inspect.isclass(c) and not issubclass(c, (Exception, Warning))}
    assert classes == MADE.keys() | UNCOPIED


@copied
@pytest.mark.parametrize("kind", MADE, ids=lambda kind: kind.__name__)
def test_copy_is_equal(toy_data: GZSLData, kind: type, duplicate: Copy) -> None:
    one = MADE[kind](toy_data)
    other = duplicate(one)
    assert type(other) is kind
    assert contents(other) == contents(one)


@copied
@pytest.mark.parametrize(
    "error",
    [
        kind
        for name in d3_plugin.__all__
        if inspect.isclass(kind := getattr(d3_plugin, name)) and issubclass(kind, Exception)
    ],
)
def test_errors_and_warnings_cross_processes(error: type[Exception], duplicate: Copy) -> None:
    other = duplicate(error("what was wrong"))
    assert type(other) is error
    assert str(other) == "what was wrong"


@copied
def test_copied_host_trains_its_own_generator(toy_data: GZSLData, duplicate: Copy) -> None:
    one = script_host(toy_data)
    other = duplicate(one)
    before = contents(one.generator)
    for parameter in other.generator.parameters():
        parameter.grad = torch.ones_like(parameter)
    other.optimizer.step()
    assert contents(one.generator) == before != contents(other.generator)


@copied
def test_distiller(toy_data: GZSLData, duplicate: Copy) -> None:
    one = attach(ScriptHost(toy_data)).distiller
    other = duplicate(one)
    rows = toy_data.train_features[:6], toy_data.train_features[6:9], toy_data.train_labels[:9]
    expected = {name: term.item() for name, term in one.terms(one.batch(*rows)).items()}
    assert {n: t.item() for n, t in other.terms(other.batch(*rows)).items()} == expected
    with torch.no_grad():
        for parameter in other.learned():
            parameter.zero_()
    assert {n: t.item() for n, t in one.terms(one.batch(*rows)).items()} == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda: O2DBDLoss(3, SEEN),
        lambda: ID2SDLoss(SEEN),
        lambda: EmbeddingClassifier(4, 3, 2),
    ],
)
def test_state_dict_round_trip(make: Callable[[], nn.Module], tmp_path: Any) -> None:
    torch.manual_seed(0)
    one, other = make(), make()
    torch.save(one.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True), strict=True)
    assert_equal(one.state_dict(), other.state_dict())


def test_settings_from_their_dict() -> None:
    settings = D3Settings.released(weight=0.5)
    assert D3Settings(**asdict(settings)) == settings


@pytest.mark.parametrize("mode", ["loss", "hook"])
@pytest.mark.parametrize("duplicate", [*COPIES.values(), copy.copy])
def test_attached_d3_points_to_its_state_dict(
    toy_data: GZSLData, duplicate: Copy, mode: str
) -> None:
    d3 = attach(ScriptHost(toy_data), mode=mode)
    with pytest.raises(HostError, match=r"d3\.state_dict\(\).*load_state_dict\(\)"):
        duplicate(d3)


@copied
def test_hooked_optimizer_and_generator_are_copied_without_d3(
    toy_data: GZSLData, duplicate: Copy
) -> None:
    """A script that keeps its best generator must not find D³ in the way."""
    host = script_host(toy_data)
    d3_plugin.attach(
        generator=host.generator,
        optimizer=host.optimizer,
        data=toy_data,
        settings=SMALL,
        mode="hook",
        synthesize=lambda _, attributes: host.generator(attributes),
    )
    host.optimizer.step()
    generator, optimizer = duplicate((host.generator, host.optimizer))
    assert contents(generator) == contents(host.generator)
    assert contents(optimizer) == contents(host.optimizer)
