"""The options that several commands share, and what they add up to."""

from __future__ import annotations

import argparse
import ast
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d3_plugin.checks import setting_problems
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.errors import D3Warning, InputError
from d3_plugin.hooks.manager import host_families, make_manager

if TYPE_CHECKING:
    from d3_plugin.experiments.settings_file import SettingsFile


def add_shared(parser: argparse.ArgumentParser, *, out: str) -> None:
    """The options of every command that trains."""
    add = parser.add_argument
    add("--adapter", help="host family, several with commas, or 'all' (default: fclswgan)")
    add("--data", default="digits", help="digits, digits-DRAW, or a folder with the two .mat files")
    add("--jobs", type=int, default=1, help="runs at the same time on this machine")
    add(
        "--backend",
        choices=["loky", "dask", "ray"],
        default="loky",
        help="where runs are made: processes of this machine, or an existing cluster",
    )
    add(
        "--scheduler",
        metavar="ADDRESS",
        help="of the cluster; without it what DASK_SCHEDULER_ADDRESS or RAY_ADDRESS says",
    )
    add("--out", type=Path, default=Path(out), help="folder of the results")
    add("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    add("--draws", type=int, default=3, help="final classifiers per run, on fresh features each")
    add("--settings", type=Path, metavar="FILE", help="JSON with settings, as d3 tune writes it")
    add_settings(parser)
    add("--traceback", action="store_true", help="show where an error came from")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """``--set`` and ``--host``."""
    for flag, name, text in (
        ("--set", "d3", "a setting of D³ (d3_plugin.D3Settings)"),
        ("--host", "host", "a setting of the host family"),
    ):
        parser.add_argument(
            flag,
            dest=name,
            metavar="NAME=VALUE",
            action="append",
            default=[],
            help=f"change {text}; may be repeated; wins over a settings file",
        )


@dataclass(frozen=True)
class Chosen:
    """What the user wants trained.

    Attributes:
        adapters: names of host families.
        file: what ``--settings`` says.
        host, d3: changes given as flags.
        how: where and with how much effort; keyword arguments of the commands' functions.
    """

    adapters: list[str]
    file: SettingsFile
    host: dict[str, Any]
    d3: dict[str, Any]
    how: dict[str, Any]

    @property
    def all_host(self) -> dict[str, Any]:
        return {**self.file.host, **self.host}

    @property
    def all_d3(self) -> dict[str, Any]:
        return {**self.file.d3, **self.d3}


def read_options(options: argparse.Namespace) -> Chosen:
    """Adapters and settings from flags and file.

    Raises:
        InputError: a setting that D³ does not have, a bad file, or one for another adapter.

    Warns:
        D3Warning: the file's settings were chosen on other data.
    """
    from d3_plugin.experiments.settings_file import SettingsFile, read_settings

    file = read_settings(options.settings) if options.settings else SettingsFile()
    wanted = options.adapter or file.adapter or "fclswgan"
    adapters = adapter_names(wanted)
    if file.adapter and adapters != [file.adapter]:
        raise InputError(
            f"{options.settings} has settings of {file.adapter!r}, but --adapter is {wanted!r}; "
            f"leave --adapter out or give {file.adapter}"
        )
    names = ("jobs", "backend", "scheduler", "device", "draws")
    how = {name: getattr(options, name) for name in names}
    chosen = Chosen(adapters, file, parse_settings(options.host), parse_settings(options.d3), how)
    setting_problems("settings of D³", D3Settings, chosen.all_d3).raise_as(InputError)
    if file.data and _is_other(file.data, options.data):
        warnings.warn(
            f"the settings of {options.settings} were chosen on other data than {options.data!r}. "
            "If the two share images (draws of digits do), test rows may have been chosen on.",
            D3Warning,
            stacklevel=2,
        )
    return chosen


def _is_other(chosen_on: str, data: str) -> bool:
    from d3_plugin.data import digest

    try:
        return chosen_on != (digest(data) or data)
    except OSError:  # loading it says what is wrong with the folder
        return False


def adapter_names(given: str) -> list[str]:
    """``all``, or names with commas between them."""
    return list(host_families(make_manager())) if given == "all" else given.split(",")


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """``["epochs=20", "form=bce"]`` as ``{"epochs": 20, "form": "bce"}``.

    Raises:
        InputError: a text without ``=``.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InputError(f"settings are given as NAME=VALUE, got {pair!r}")
        try:
            literal = {"true": "True", "false": "False", "none": "None"}.get(value.lower(), value)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "1is" is a text, not Python with a flaw
                settings[name] = ast.literal_eval(literal)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            settings[name] = value
    return settings
