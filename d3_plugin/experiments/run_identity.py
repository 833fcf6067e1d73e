"""A run of a comparison, and its identity: what makes two runs the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from d3_plugin import __version__
from d3_plugin.distillation.settings import SCORING, D3Settings
from d3_plugin.experiments.code import Code, code_of, installed_families
from d3_plugin.experiments.source_digests import short_digest
from d3_plugin.hosts.host import HostFamily

Split = Literal["test", "validation"]


@dataclass(frozen=True)
class Run:
    """A host, with or without D³, on the test or the validation problem of a seed.

    Attributes:
        adapter: name of the host family.
        data: ``digits``, ``digits-DRAW`` or a folder.
        data_digest: of the folder's files.
        seed: of host, D³, data draw and validation cut; the same for all variants.
        variant: a name, part of the file name: ``baseline``, ``d3`` or any other.
        split: ``test`` or ``validation``, the problem that it is trained on.
        host: all settings of the host family.
        d3: settings of D³; None for the host without it.
        draws: number of final classifiers, each trained on freshly drawn features.
        device: where to train.
        threads: of the CPU; other numbers give other rounding errors.
        attributes: file with other attributes than the folder's; part of ``data_digest``.
        validation: the validation problem is the folder's own, not a random cut.
        family: the host family, if no installed plugin provides it.
        plugin: what is added to +D³, if anything is.
    """

    adapter: str
    data: str
    data_digest: str
    seed: int
    variant: str
    split: Split
    host: dict[str, Any]
    d3: D3Settings | None
    draws: int
    device: str
    threads: int = 1
    attributes: str | Path | None = None
    validation: bool = False
    family: HostFamily | None = None
    plugin: Any = None

    @property
    def name(self) -> str:
        """File name of its results."""
        return f"{self.adapter}-seed{self.seed}-{self.split}-{self.variant}"

    @property
    def code(self) -> Code:
        """The code that makes the run, as read by this process."""
        return code_of(self.adapter, self.family, self.plugin)

    def identity(self) -> dict[str, Any]:
        """Everything that the result depends on, as JSON types.

        Code, versions and device type are part of it: they change random numbers, and a pair must
        share them. The paths of the data and the host family are not.
        """
        identity = asdict(replace(self, family=None, plugin=None))
        del identity["family"], identity["plugin"], identity["attributes"]
        identity["data"] = identity.pop("data_digest") or self.data
        identity["device"] = torch.device(self.device).type
        identity["versions"] = versions()
        identity["code"] = asdict(self.code)
        return dict(json.loads(json.dumps(identity)))

    def completed(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """A stored identity, with today's defaults for settings that did not exist then."""
        family = self.family or installed_families().get(self.adapter)
        defaults = {"host": {} if family is None else asdict(family.settings())}
        defaults |= {} if self.d3 is None else {"d3": asdict(type(self.d3)())}
        whole = dict(identity)
        for name, values in json.loads(json.dumps(defaults)).items():
            if isinstance(stored := whole.get(name), dict):
                whole[name] = {**values, **stored}
        return whole


def versions() -> dict[str, str]:
    """Versions of the packages that can change random numbers."""
    return {"d3_plugin": __version__, "torch": torch.__version__}


def training_part(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity without :data:`~d3_plugin.distillation.settings.SCORING`: all but scoring."""
    d3 = identity.get("d3")
    if isinstance(d3, dict):
        d3 = {name: value for name, value in d3.items() if name not in SCORING}
    return {**identity, "d3": d3}


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What is not the same in two identities, in words."""
    old, new = dict(_flat(stored)), dict(_flat(wanted))
    lines = []
    for name in sorted(old.keys() | new.keys()):
        before, now = old.get(name, "absent"), new.get(name, "absent")
        if before != now:
            kind, _, last = name.rpartition(": ")
            change = f"{name.removeprefix('code: ')} was {before}, is now {now}"
            lines.append(f"module {last}" if kind == "code: modules" else change)
    return lines


def _flat(settings: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{place}{name}: ")
        else:
            yield f"{place}{name}", value


def checkpoint_name(runs: Sequence[Run]) -> str:
    """File name for the checkpoint of a training of these runs; of other code it has another."""
    identities = [training_part(run.identity()) for run in runs]
    return f"{runs[0].name}+{short_digest(json.dumps(identities, sort_keys=True))}.checkpoint.pt"
