"""The options of the commands, checked whole as they are made, before any training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from d3_plugin.checks import Effort, setting_problems
from d3_plugin.data import GZSLData, digest, load, pseudo_unseen, warn_of_order
from d3_plugin.distillation.settings import SCORING, D3Settings
from d3_plugin.errors import DataError, InputError, Problems, warn
from d3_plugin.experiments.families import find_family, host_settings
from d3_plugin.experiments.machines import check_device, check_installed
from d3_plugin.experiments.parallel import Workers
from d3_plugin.experiments.run_identity import Run
from d3_plugin.experiments.settings_file import SettingsFile, read_settings
from d3_plugin.experiments.store import store_data
from d3_plugin.hooks.manager import host_families, make_manager
from d3_plugin.hosts.host import HostFamily


@dataclass(frozen=True)
class Options:
    """Options of every command that trains.

    Attributes:
        adapter: a host family: its name, its import path ``package.module:attribute``, several
            separated by commas, or ``all``; default: that of the settings file, or fclswgan. In
            Python also a :class:`~d3_plugin.HostFamily` or a training function.
        data: ``digits`` (other unseen classes for each seed), ``digits-DRAW``, or a folder with
            ``res101.mat`` and ``att_splits.mat``. In Python also a
            :class:`~d3_plugin.data.GZSLData`, which is written to ``out/data``.
        host: override a baseline setting, also one of the file; may be repeated. In Python a dict
            of all changes.
        d3: override a setting of D³, also one of the file; may be repeated. In Python a dict of
            all changes.
        device: where to train: cpu, cuda, cuda:1, ...
        attributes: another file with the attributes of the data folder, such as
            ``sent_splits.mat``.
        settings: JSON file with settings, such as ``d3 tune`` writes.

    Raises:
        MissingExtraError: a package of the extra ``compare`` is not installed.
        InputError: lists everything wrong, unusable data included.

    Warns:
        D3Warning: the settings of the file were chosen on other data; or of the data.
    """

    adapter: str | HostFamily | Callable[..., object] | None = None
    data: str | Path | GZSLData = "digits"
    _: KW_ONLY
    host: Mapping[str, Any] | None = None
    d3: Mapping[str, Any] | None = None
    device: str = "cpu"
    attributes: str | Path | None = None
    settings: str | Path | None = None

    command: ClassVar[str]
    default_adapter: ClassVar[str] = "fclswgan"

    def __post_init__(self) -> None:
        problems = setting_problems(self.command, type(self), vars(self))
        self._check(problems)
        problems.raise_as(InputError)

    def _check(self, problems: Problems) -> None:
        with noted(problems):
            check_device(self.device)
        with noted(problems):
            self._check_families(problems)
        with noted(problems):
            self.d3_settings  # noqa: B018 - makes and checks them
        with noted(problems):
            warn_of_order(self.problem)

    def _check_families(self, problems: Problems) -> None:
        """Check the host families, and the changes to their settings, given and of the file."""
        file, named = f"settings file {str(self.settings)!r}", self.file.adapter
        families: list[HostFamily] = []
        for adapter in self.adapters:
            with noted(problems, f"{file}: adapter: " if named and not self.adapter else ""):
                families.append(find_family(adapter))
        for family in families:
            with noted(problems):
                host_settings(family, dict(self.host or {}))
            with noted(problems, f"{file}: host: "):
                host_settings(family, self.file.host)
        names = [family.name for family in families]
        if named and [named] not in (self.adapters, names):
            problems.add(
                f"{self.settings} has settings of {named!r}, but --adapter is {self.adapter!r}; "
                "leave --adapter out"
            )

    @cached_property
    def file(self) -> SettingsFile:
        """What the settings file says."""
        return SettingsFile() if self.settings is None else read_settings(Path(self.settings))

    @cached_property
    def adapters(self) -> list[str | HostFamily | Callable[..., object]]:
        """The host families as they were given, one by one."""
        given = self.adapter or self.file.adapter or self.default_adapter
        if given == "all":
            return list(host_families(make_manager()))
        return list(given.split(",")) if isinstance(given, str) else [given]

    @cached_property
    def families(self) -> dict[str, HostFamily]:
        """Host families by name; with ``hooks`` if no installed plugin provides them."""
        return {family.name: family for family in map(find_family, self.adapters)}

    @cached_property
    def host_changes(self) -> dict[str, Any]:
        """Changes to the settings of the host families: of the file, overridden by those given."""
        return {**self.file.host, **(self.host or {})}

    @cached_property
    def hosts(self) -> dict[str, dict[str, Any]]:
        """All settings of each host family."""
        return {
            name: asdict(host_settings(family, self.host_changes))
            for name, family in self.families.items()
        }

    @cached_property
    def d3_changes(self) -> dict[str, Any]:
        """Changes to the settings of D³: of the file, overridden by those given."""
        changes = {**self.file.d3, **(self.d3 or {})}
        setting_problems("settings of D³", D3Settings, changes).raise_as(InputError)
        return changes

    @cached_property
    def d3_settings(self) -> D3Settings:
        """All settings of D³."""
        return D3Settings(**self.d3_changes)

    @cached_property
    def problem(self) -> GZSLData:
        """The data, not scaled."""
        if not isinstance(self.data, GZSLData):
            return load(str(self.data), attributes=self.attributes)
        if self.attributes is not None:
            raise InputError("attributes are for data folders; a GZSLData has its own")
        return self.data


@dataclass(frozen=True)
class RunOptions(Options, Workers):
    """Options of the commands that make runs.

    Attributes:
        out: folder for runs and results; finished runs found there are not made again.
        draws: final classifiers per run, each trained on freshly drawn features.
        threads: CPU threads of each run; finished runs of another number, which have other rounding
            errors, are not used.
        rerun: make finished runs again if their code or settings have changed since; their old
            files are kept in ``runs/aside-DATE``. Otherwise such runs are an error.
    """

    out: str | Path = Path("runs")
    _: KW_ONLY
    draws: Effort = 3
    threads: Effort = 1
    rerun: bool = False

    def _check(self, problems: Problems) -> None:
        check_installed("compare", "jinja2", "jsonschema", "matplotlib", "tqdm")
        super()._check(problems)
        if self.backend == "loky" and self.scheduler is not None:
            problems.add(f"a scheduler ({self.scheduler}) is for the backend dask, not loky")
        with noted(problems):
            elsewhere = self.jobs > 1 or self.backend != "loky"
            for family in self.families.values() if elsewhere else ():
                problems.check(
                    getattr(family.hooks, "__name__", "") != "__main__",
                    f"worker processes cannot import {family.name!r}, which is defined in the "
                    "script itself: move it into a module, or use jobs=1",
                )

    @cached_property
    def released(self) -> D3Settings:
        """The released formulas with the changes given, but not the file's.

        They have no ensemble and no offset.
        """
        changes = {k: v for k, v in (self.d3 or {}).items() if k not in SCORING}
        return D3Settings.released(**changes)

    def first_runs(self) -> list[Run]:
        """Of each host family a run with all that these options fix.

        Data that were given as an object are written into ``out``, where workers read them.

        Raises:
            InputError: the folder there holds other data of the same name.
            StorageError: they cannot be written.
        """
        if isinstance(self.data, GZSLData):
            data = store_data(self.data, Path(self.out))
        else:
            data = str(self.data)
        found = digest(data, self.attributes)
        if self.file.tuned.get("data") not in (None, found or data):
            warn(
                f"the settings of {self.settings} were chosen on other data than {data!r}. If the "
                "two share images, as draws of digits do, test rows of this data may have been "
                "used to choose them."
            )
        return [
            Run(
                adapter=name,
                data=data,
                data_digest=found,
                seed=0,
                variant="",
                split="test",
                host=self.hosts[name],
                d3=None,
                draws=self.draws,
                device=self.device,
                threads=self.threads,
                attributes=self.attributes,
                family=None if family.hooks is None else family,
            )
            for name, family in self.families.items()
        ]


@dataclass(frozen=True)
class CutOptions(RunOptions):
    """Options of the commands that choose something on pseudo-unseen classes.

    Attributes:
        validation: choose on the data folder's own validation split, not on random cuts; the number
            of cuts is then that of trainings on it. In Python see
            :func:`~d3_plugin.data.load_mat_folder`.
        cuts: number of pseudo-unseen cuts of the seen classes.
    """

    _: KW_ONLY
    validation: bool = False
    cuts: Effort = 3

    def _check(self, problems: Problems) -> None:
        super()._check(problems)
        with noted(problems):
            if not self.validation:
                pseudo_unseen(self.problem)
            elif isinstance(self.data, GZSLData):
                raise InputError("validation is for data folders, not GZSLData")
            else:
                load(str(self.data), attributes=self.attributes, validation=True)

    def first_runs(self) -> list[Run]:
        """As in :class:`RunOptions`."""
        return [replace(run, validation=self.validation) for run in super().first_runs()]


@contextmanager
def noted(problems: Problems, place: str = "") -> Iterator[None]:
    """What is raised inside becomes a problem, once."""
    try:
        yield
    except (InputError, DataError) as error:
        if f"{place}{error}" not in problems.found:
            problems.add(f"{place}{error}")
    except Exception:  # of an option that has a wrong type, which is among the problems already
        if not problems.found:
            raise
