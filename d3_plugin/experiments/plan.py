"""Which runs a comparison consists of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from d3_plugin import __version__
from d3_plugin.distillation.settings import SCORING, D3Settings
from d3_plugin.experiments.code import Code, code_of, installed_families
from d3_plugin.experiments.training_function import TrainingFunction
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

    @property
    def code(self) -> Code:
        """The code that makes the run, as read by this process."""
        return code_of(self.adapter, self.family, self.plugin)

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

    def training_identity(self) -> dict[str, Any]:
        """The identity without the settings that only scoring depends on."""
        return training_part(self.identity())


def versions() -> dict[str, str]:
    """Versions of the packages that can change random numbers."""
    return {"d3_plugin": __version__, "torch": torch.__version__}


def training_part(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity without :data:`~d3_plugin.distillation.settings.SCORING`, as JSON types."""
    d3 = identity.get("d3")
    if isinstance(d3, dict):
        d3 = {name: value for name, value in d3.items() if name not in SCORING}
    return {**identity, "d3": d3}


def trainings(runs: Iterable[Run]) -> list[list[Run]]:
    """The runs of each training, in their order.

    With weight 0 D³ leaves the host's training bit-identical: one training then serves the baseline
    and every student. A training function, which attaches a single D³, serves one run.
    """
    together: dict[str, list[Run]] = {}
    for run in runs:
        reached = run.d3 is not None and run.d3.weight
        in_loop = run.family is not None and isinstance(run.family.build, TrainingFunction)
        alone = run.variant if reached or in_loop else None
        host = replace(run, plugin=None).identity()
        key = json.dumps({**host, "variant": alone, "d3": None}, sort_keys=True)
        together.setdefault(key, []).append(run)
    return list(together.values())


def trial_name(host: Mapping[str, Any], d3: D3Settings | None) -> str:
    """Variant of a trial of ``d3 tune``, made from its settings: equal trials share their runs."""
    content = json.dumps([host, d3 and asdict(d3)], sort_keys=True)
    kind = "baseline" if d3 is None else "d3"
    return f"{kind}-{hashlib.sha256(content.encode()).hexdigest()[:10]}"


def validation_cuts(data: str, seeds: int, cuts: int) -> dict[int, list[int]]:
    """For each seed, the seeds of the validation runs that offsets for its test run come from.

    All seeds of a folder share one problem and so the first ``cuts`` pseudo-unseen cuts of its seen
    classes, or the first ``cuts`` trainings on its own validation split. With ``digits`` each seed
    is a problem of its own, whose training rows are test rows of others: it has its own cut alone.
    """
    if data == "digits":
        return {seed: [seed] for seed in range(seeds)}
    return {seed: list(range(min(cuts, seeds))) for seed in range(seeds)}


def plan(
    firsts: Iterable[Run],
    seeds: int,
    variants: Mapping[str, D3Settings | None],
    validated: Collection[int] = (),
    plugins: Mapping[str, object] | None = None,
) -> list[Run]:
    """Every variant on the test problem of every seed; tuned ones also on validation problems.

    Tuned are ``baseline``, ``d3``, and ``d3`` with a plugin. The variants of a seed are adjacent.

    Args:
        firsts: of each host family a run, whose seed, variant, split and D³ are replaced.
        seeds: how many.
        variants: settings of D³ by the variant's name; None for the host without D³.
        validated: seeds with validation runs, which offsets are chosen on.
        plugins: what is added to +D³, by the variant's name.
    """
    plugins = plugins or {}
    tuned = ("baseline", "d3", *plugins)
    runs = []
    for first in firsts:
        for seed in range(seeds):
            on_test = replace(first, seed=seed, split="test", validation=False)
            on_cut = replace(first, seed=seed, split="validation")
            for variant in tuned if seed in validated else ():
                d3, plugin = variants[variant], plugins.get(variant)
                runs.append(replace(on_cut, variant=variant, d3=d3, plugin=plugin))
            for variant, d3 in variants.items():
                plugin = plugins.get(variant)
                runs.append(replace(on_test, variant=variant, d3=d3, plugin=plugin))
    return runs
