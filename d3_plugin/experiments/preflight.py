"""Everything that can be wrong before hours of training: of the command, and of a worker."""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from d3_plugin.checks import setting_problems
from d3_plugin.data import GZSLData, digest, load, pseudo_unseen
from d3_plugin.distillation.settings import SCORING, D3Settings
from d3_plugin.errors import D3Warning, DataError, InputError, MissingExtraError, Problems
from d3_plugin.experiments.plan import Run
from d3_plugin.experiments.run import find_family, host_settings
from d3_plugin.hooks.manager import host_families, make_manager
from d3_plugin.hosts.host import HostFamily

_COUNTS = ("seeds", "trials", "cuts", "draws", "rounds", "jobs", "threads")
_WRITTEN = (".json", ".html", ".csv", ".tex", ".svg", ".pdf", ".png")  # into ``out``
_MOST = 10_000  # more is a typing error, and would fill the memory


@dataclass(frozen=True)
class SettingsFile:
    """A file for ``--settings``, written by ``d3 tune`` or by hand: a JSON object, all optional.

    Attributes:
        adapter: host family that ``host`` is for.
        note: for human readers.
        host, d3: changes to the settings of the host family and of D³.
        tuned: how ``d3 tune`` chose them; ``data`` is the name or digest of the data.
    """

    adapter: str | None = None
    note: str = ""
    host: dict[str, Any] = field(default_factory=dict)
    d3: dict[str, Any] = field(default_factory=dict)
    tuned: dict[str, Any] = field(default_factory=dict)


def read_settings(path: Path) -> SettingsFile:
    """Read a settings file; names and values of the settings are not checked here.

    Raises:
        InputError: no such file, no JSON object, or other entries; lists everything wrong.
    """
    subject = f"settings file {str(path)!r}"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{subject} cannot be read as a JSON object such as "
            f'{{"adapter": "fclswgan", "host": {{"lr": 1e-4}}}}: {error}'
        ) from error
    setting_problems(subject, SettingsFile, content).raise_as(InputError)
    return SettingsFile(**content)


@dataclass
class Request:
    """A command's arguments, checked, and what they add up to.

    Attributes:
        host_changes, d3_changes: settings of the file, overridden by those given.
        families, hosts: host families and all their settings, by name.
        foreign: those families that no installed plugin provides.
        d3: all settings of D³.
        released: the released formulas with the changes given, but not the file's; they have no
            ensemble and no offset.
        data: name or folder; of data given as an object, the folder they were written to.
        digest: of the data.
    """

    host_changes: dict[str, Any]
    d3_changes: dict[str, Any]
    families: dict[str, HostFamily] = field(default_factory=dict)
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)
    d3: D3Settings = field(default_factory=D3Settings)
    released: D3Settings = field(default_factory=D3Settings.released)
    data: str = ""
    digest: str = ""

    @property
    def foreign(self) -> list[HostFamily]:
        return [family for family in self.families.values() if family.hooks is not None]


def read_request(given: Mapping[str, Any], problems: Problems) -> Request:
    """Check the arguments of compare, ablate, tune or bench, before any training.

    Args:
        given: the function's arguments by name.
        problems: those that the command has found itself; raised together with the others.

    Raises:
        MissingExtraError: a package of the extra ``compare`` is not installed.
        InputError: lists everything wrong, unusable data included.

    Warns:
        D3Warning: the settings of the file were chosen on other data; or of the data.
    """
    _check_effort(given, problems)
    file = SettingsFile()
    with _noted(problems):
        file = read_settings(Path(given["settings"])) if given.get("settings") else file
    request = Request({**file.host, **(given["host"] or {})}, {**file.d3, **(given["d3"] or {})})
    adapter = given["adapter"] or file.adapter or "fclswgan"
    names = adapter.split(",") if isinstance(adapter, str) else [adapter]
    if names == ["all"]:
        names = list(host_families(make_manager()))
    for name in names:
        with _noted(problems):
            family = find_family(name)
            request.families[family.name] = family
            request.hosts[family.name] = asdict(host_settings(family, request.host_changes))
    if file.adapter and ([file.adapter] not in (names, list(request.families))):
        problems.add(
            f"{given['settings']} has settings of {file.adapter!r}, but --adapter is "
            f"{given['adapter']!r}; leave --adapter out"
        )
    if given.get("jobs") != 1 or given.get("backend") != "loky":
        for family in request.foreign:
            problems.check(
                getattr(family.hooks, "__name__", "") != "__main__",
                f"worker processes cannot import {family.name!r}, which is defined in the script "
                "itself: move it into a module, or use jobs=1",
            )
    with _noted(problems):
        setting_problems("settings of D³", D3Settings, request.d3_changes).raise_as(InputError)
        make = D3Settings.released if given.get("preset") == "released" else D3Settings
        request.d3 = make(**request.d3_changes)
        changes = {k: v for k, v in (given["d3"] or {}).items() if k not in SCORING}
        request.released = D3Settings.released(**changes)
    data, attributes = given["data"], given.get("attributes")
    validation = given.get("validation", False)
    with _noted(problems):
        if isinstance(data, GZSLData):
            plain = attributes is None and not validation
            problems.check(plain, "attributes and validation are for data folders, not GZSLData")
        else:
            request.data = os.fspath(data) if isinstance(data, os.PathLike) else data
            data = load(data, attributes=attributes)
            request.digest = digest(request.data, attributes)
            if validation:
                load(request.data, attributes=attributes, validation=True)
        if "cuts" in given and not validation:
            pseudo_unseen(data)
    problems.raise_as(InputError)
    if isinstance(given["data"], GZSLData) and "out" in given:
        request.data = _stored(data, Path(given["out"]))
        request.digest = digest(request.data)
    if file.tuned.get("data") not in (None, request.digest or request.data):
        warnings.warn(
            f"the settings of {given['settings']} were chosen on other data than "
            f"{request.data!r}. If the two share images, as draws of digits do, test rows of this "
            "data may have been used to choose them.",
            D3Warning,
            stacklevel=3,
        )
    return request


def _stored(data: GZSLData, out: Path) -> str:
    """The folder in ``out`` from which worker processes read these data.

    Raises:
        InputError: it holds other data of the same name.
        StorageError: it cannot be written.
    """
    folder = out / "data" / (re.sub(r"[^\w-]+", "-", data.name) or "data")
    new = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        data.save(new)
        made = digest(str(new))
        with suppress(OSError):  # there is one, of an earlier command
            new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    if digest(str(folder)) != made:
        raise InputError(f"{folder} does not hold these data; use another out, or data.name")
    return str(folder)


def _check_effort(given: Mapping[str, Any], problems: Problems) -> None:
    """Packages, counts, where to train, and files that cannot be written in the end."""
    if "jobs" in given:
        check_installed("compare", "jinja2", "jsonschema", "matplotlib", "tqdm")
    for name in given.keys() & set(_COUNTS):
        problems.check(
            isinstance(given[name], int) and 1 <= given[name] <= _MOST,
            f"{name} must be at least 1 and at most {_MOST}, got {given[name]!r}",
        )
    local, scheduler = given.get("backend", "loky") == "loky", given.get("scheduler")
    problems.found += unusable(given["device"], here=local)
    if (out := Path(given.get("out", ""))).is_dir():
        in_the_way = [p for p in out.glob("*.*") if p.suffix in _WRITTEN and p.is_dir()]
        problems.found += [f"{path} is a folder, not a file; move it away" for path in in_the_way]
    if local and scheduler is not None:
        problems.add(f"a scheduler ({scheduler}) is for the backends dask and ray, not loky")


def check_installed(extra: str, *packages: str) -> None:
    """Check that the packages of an extra are there, without importing them.

    Raises:
        MissingExtraError: one is not; says how to install it.
    """
    for name in packages:
        if find_spec(name) is None:
            raise MissingExtraError(f"this needs {name}: pip install 'd3-plugin[{extra}]'")


@contextmanager
def _noted(problems: Problems) -> Iterator[None]:
    try:
        yield
    except (InputError, DataError) as error:
        problems.add(str(error))


def unusable(device: str, *, here: bool = True) -> list[str]:
    """Why PyTorch cannot train on this device; ``here=False`` checks only the name."""
    with suppress(Exception):  # of many kinds, and with long texts about PyTorch's inside
        kind = torch.device(device).type
        if here and kind != "cuda":  # which would start CUDA in this process
            torch.zeros(1, device=device).item()
        if not here or kind != "cuda" or torch.cuda.is_available():
            return []
    backends = {"cuda": torch.cuda, "mps": torch.backends.mps}
    there_is = ["cpu", *(name for name, backend in backends.items() if backend.is_available())]
    return [f"--device {device!r} cannot be used here; there is {', '.join(there_is)}"]


def unfit(run: Run, versions: dict[str, str]) -> list[str]:
    """Why this machine, a worker of a cluster, cannot make a run as it was planned.

    Args:
        run: what is to be made here; other runs of its training differ in D³ alone.
        versions: of the packages where it was planned, as in a run's identity.
    """
    problems = Problems("worker")
    found: str | None = None
    with suppress(OSError):
        found = digest(run.data, run.attributes)
    wrong = f"data folder {run.data} is missing here, or has other contents"
    problems.check(found == run.data_digest, wrong)
    problems.found += unusable(run.device)
    if run.family is None:
        with _noted(problems):
            find_family(run.adapter)
    own = replace(run, device="cpu").identity()["versions"]
    problems.check(own == versions, f"versions {own}; where the command was started {versions}")
    return problems.found
