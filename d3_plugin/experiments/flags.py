"""The flags of a ``d3`` command: the fields of its options, as their docstrings explain them."""

from __future__ import annotations

import argparse
import inspect
import re
import shlex
import types
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from d3_plugin.experiments.options import RunOptions

METAVARS = {
    **{"out": "FOLDER", "settings": "FILE", "attributes": "FILE", "fail_if": "CONDITION"},
    "plugins": "MODULE:OBJECT",
}
FLAGS = {"d3": "--set", "plugins": "--plugin"}
"""Flags that are not named after their argument."""

PROGRESS = (
    ("--quiet", "none", "show no progress, only results"),
    ("--verbose", "steps", "also show progress every 10 %% of each training"),
)

_REPEATED = (  # in the command that gives the same results
    *("adapter", "data", "attributes", "settings", "validation", "seeds", "cuts", "draws"),
    *("preset", "variants", "device", "threads", "name"),
)


def add_flags(parser: argparse.ArgumentParser, function: Callable[..., Any]) -> None:
    """A flag for each argument of a function, of its type and with its default.

    For a function that takes options (:func:`~d3_plugin.checks.takes`), their docstring is used.
    What follows "In Python" in it is left out.
    """
    documented = getattr(function, "options", function)
    hints, texts = get_type_hints(documented), meanings(documented)
    how: dict[str, Any]
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "progress":
            either = parser.add_mutually_exclusive_group()
            for flag, value, text in PROGRESS:
                how = {"dest": name, "const": value, "default": parameter.default, "help": text}
                either.add_argument(flag[1:3], flag, action="store_const", **how)
            continue
        default, text = parameter.default, texts.get(name, "").partition(" In Python ")[0]
        how = {"default": default, **_kind(name, hints[name], default)}
        if default is parameter.empty:
            flag = name
        else:
            flag, how["dest"] = FLAGS.get(name, f"--{name.replace('_', '-')}"), name
        said = default is not None and default is not False and default not in ((), parameter.empty)
        text += f" (default: {default})" if said else ""
        short = ["-v"] if name == "verbose" else []
        added: Any = parser.add_argument(*short, flag, help=text.replace("%", "%%"), **how)
        if name in ("out", "settings", "attributes", "data", "folder"):
            added.complete = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}


def _kind(name: str, hint: Any, default: Any) -> dict[str, Any]:
    """How argparse reads a value of this type."""
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint), "metavar": "|".join(get_args(hint))}
    if name in ("host", "d3", "fail_if", "plugins"):
        return {"action": "append", "metavar": METAVARS.get(name, "NAME=VALUE"), "default": []}
    if name in METAVARS:
        return {"type": _path, "metavar": METAVARS[name]}
    if isinstance(default, bool):
        return {"action": "store_true"}
    return {"type": int, "metavar": "N"} if isinstance(default, int) else {}


def meanings(documented: Any) -> dict[str, str]:
    """What the docstring says of each argument; of each field of a dataclass and its bases.

    The first docstring that names it counts; ``field(metadata={"help": ...})`` overrides all.
    """
    found: dict[str, str] = {}
    for each in getattr(documented, "__mro__", [documented]):
        docs = re.sub(r":\w+:`~?|`", "", inspect.getdoc(each) or "")
        for names, text in re.findall(r"^    (\w+(?:, \w+)*): (.*(?:\n {8}.*)*)", docs, re.M):
            found = dict.fromkeys(names.split(", "), " ".join(text.split())) | found
    written = fields(documented) if is_dataclass(documented) else ()
    return found | {f.name: f.metadata["help"] for f in written if "help" in f.metadata}


def setting_lines(kind: type[Any]) -> list[str]:
    """A line for each setting of a dataclass: default, allowed values, and meaning."""
    hints, texts = get_type_hints(kind, include_extras=True), meanings(kind)
    lines = []
    for setting in fields(kind):
        default = setting.default
        if setting.default_factory is not MISSING:
            default = setting.default_factory()
        allowed, text = _allowed(hints[setting.name]), texts.get(setting.name, "")
        # A module's path means nothing to someone who only sets values.
        text = re.sub(r"(?:d3_plugin)?\.(?:\w+\.)+(\w+)", r"\1", text)
        meaning = f": {text}" if text else ""
        lines.append(f"{setting.name}={default}{f' ({allowed})' if allowed else ''}{meaning}")
    return lines


def _allowed(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin in (Union, types.UnionType):
        return " or ".join(filter(None, map(_allowed, inner)))
    return str(inner[1]) if origin is Annotated else ""


def _path(given: str) -> Path:
    if not given:
        raise argparse.ArgumentTypeError("must not be empty")
    return Path(given)


def command_line(options: RunOptions, data: str, plugins: Iterable[str] = ()) -> str:
    """The ``d3`` command that gives the same results, without its ``--out``.

    Args:
        options: of ``d3 compare`` or ``d3 ablate``.
        data: name or folder; of data given as an object, where they are.
        plugins: import paths, or names of objects.
    """
    named = options.adapter or options.file.adapter
    by_path = isinstance(named, str) and ":" in named
    values = {f.name: vars(options)[f.name] for f in fields(options) if f.name in _REPEATED}
    values["adapter"] = named if by_path else ",".join(options.families)
    values["data"] = data
    words = ["d3", options.command]
    for name, value in values.items():
        if value is True:
            words.append(f"--{name}")
        elif value not in (None, False, "default"):
            words += [f"--{name}", str(value)]
    for flag, changes in (("--set", options.d3), ("--host", options.host)):
        for name, value in (changes or {}).items():
            words += [flag, f"{name}={value}"]
    for plugin in plugins:
        words += ["--plugin", plugin]
    return shlex.join(words)
