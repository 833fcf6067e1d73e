"""Everything that can be wrong before hours of training: of the command, and of a worker."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from d3_plugin.checks import setting_problems
from d3_plugin.data import digest, load, pseudo_unseen
from d3_plugin.distillation.settings import SCORING, D3Settings
from d3_plugin.errors import D3Warning, DataError, InputError, MissingExtraError, Problems
from d3_plugin.experiments.plan import Run
from d3_plugin.experiments.run import find_family, host_settings
from d3_plugin.hooks.manager import host_families, make_manager
from d3_plugin.hosts.host import HostFamily

_COUNTS = ("seeds", "trials", "cuts", "draws", "rounds", "jobs", "threads")
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
        d3: all settings of D³.
        released: the released formulas with the changes given, but not the file's; they have no
            ensemble and no offset.
        digest: of the data.
    """

    host_changes: dict[str, Any]
    d3_changes: dict[str, Any]
    families: dict[str, HostFamily] = field(default_factory=dict)
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)
    d3: D3Settings = field(default_factory=D3Settings)
    released: D3Settings = field(default_factory=D3Settings.released)
    digest: str = ""


def read_request(given: Mapping[str, Any], problems: Problems) -> Request:
    """Check the arguments of compare, ablate, tune or bench, before any training.

    Args:
        given: the function's arguments by name.
        problems: those that the command has found itself; raised together with the others.

    Raises:
        MissingExtraError: a package of the extra ``compare`` is not installed.
        InputError: lists everything wrong, unusable data included.

    Warns:
        D3Warning: the settings of the file were chosen on other data.
    """
    _check_effort(given, problems)
    file = SettingsFile()
    with _noted(problems):
        file = read_settings(given["settings"]) if given.get("settings") else file
    request = Request({**file.host, **(given["host"] or {})}, {**file.d3, **(given["d3"] or {})})
    names = (given["adapter"] or file.adapter or "fclswgan").split(",")
    if names == ["all"]:
        names = list(host_families(make_manager()))
    if file.adapter and names != [file.adapter]:
        problems.add(
            f"{given['settings']} has settings of {file.adapter!r}, but --adapter is "
            f"{given['adapter']!r}; leave --adapter out"
        )
    for name in names:
        with _noted(problems):
            request.families[name] = find_family(name)
            settings = host_settings(request.families[name], request.host_changes)
            request.hosts[name] = asdict(settings)
    with _noted(problems):
        setting_problems("settings of D³", D3Settings, request.d3_changes).raise_as(InputError)
        make = D3Settings.released if given.get("preset") == "released" else D3Settings
        request.d3 = make(**request.d3_changes)
        changes = {k: v for k, v in (given["d3"] or {}).items() if k not in SCORING}
        request.released = D3Settings.released(**changes)
    with _noted(problems):
        data = load(given["data"])
        request.digest = digest(given["data"])
        if "cuts" in given:
            pseudo_unseen(data)
    problems.raise_as(InputError)
    if file.tuned.get("data") not in (None, request.digest or given["data"]):
        warnings.warn(
            f"the settings of {given['settings']} were chosen on other data than "
            f"{given['data']!r}. If the two share images, as draws of digits do, test rows of this "
            "data may have been used to choose them.",
            D3Warning,
            stacklevel=3,
        )
    return request


def _check_effort(given: Mapping[str, Any], problems: Problems) -> None:
    """Packages, counts, and where to train."""
    missing = [name for name in ("jinja2", "matplotlib", "tqdm") if find_spec(name) is None]
    if missing and "jobs" in given:
        raise MissingExtraError(f"this needs {missing[0]}: pip install 'd3-plugin[compare]'")
    for name in given.keys() & set(_COUNTS):
        problems.check(
            isinstance(given[name], int) and 1 <= given[name] <= _MOST,
            f"{name} must be at least 1 and at most {_MOST}, got {given[name]!r}",
        )
    local, scheduler = given.get("backend", "loky") == "loky", given.get("scheduler")
    problems.found += unusable(given["device"], here=local)
    if local and scheduler is not None:
        problems.add(f"a scheduler ({scheduler}) is for the backends dask and ray, not loky")


@contextmanager
def _noted(problems: Problems) -> Iterator[None]:
    try:
        yield
    except (InputError, DataError) as error:
        problems.add(str(error))


def unusable(device: str, *, here: bool = True) -> list[str]:
    """Why PyTorch cannot train on this device; ``here=False`` checks only the name."""
    try:
        kind = torch.device(device).type
        if here and kind != "cuda":  # which would start CUDA in this process
            torch.zeros(1, device=device).item()
        usable = not here or kind != "cuda" or torch.cuda.is_available()
    except Exception:  # of many kinds, and with long texts about PyTorch's inside
        usable = False
    if usable:
        return []
    backends = {"cuda": torch.cuda, "mps": torch.backends.mps}
    there_is = ["cpu", *(name for name, backend in backends.items() if backend.is_available())]
    return [f"--device {device!r} cannot be used here; there is {', '.join(there_is)}"]


def unfit(runs: list[Run], versions: dict[str, str]) -> list[str]:
    """Why this machine, a worker of a cluster, cannot make these runs as they were planned.

    Args:
        runs: what is to be made here.
        versions: of the packages where they were planned, as in a run's identity.
    """
    problems = []
    for spec, expected in sorted({(run.data, run.data_digest) for run in runs}):
        try:
            found = digest(spec)
        except OSError:
            found = "unreadable"
        if found != expected:
            problems.append(f"data folder {spec} is missing here, or has other contents")
    for device in sorted({run.device for run in runs}):
        problems += unusable(device)
    for name in sorted({run.adapter for run in runs}):
        try:
            find_family(name)
        except InputError as error:
            problems.append(str(error))
    own = replace(runs[0], device="cpu").identity()["versions"]
    if own != versions:
        problems.append(f"versions {own}; where the command was started {versions}")
    return problems
