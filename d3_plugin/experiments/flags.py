"""The flags of a ``d3`` command: the arguments of its function, as its docstring explains them."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from d3_plugin.experiments.comparison import compare

PATHS = {"out": "FOLDER", "settings": "FILE", "attributes": "FILE"}
PROGRESS = (
    ("--quiet", "none", "show no progress, only results"),
    ("--verbose", "steps", "also show a line per tenth of each training"),
)


def add_flags(parser: argparse.ArgumentParser, function: Callable[..., Any]) -> None:
    """A flag for each argument of a function, of its type and with its default.

    What its docstring does not explain is as in :func:`~d3_plugin.experiments.compare`; what
    follows "In Python" is not for the command line.
    """
    hints, meaning = get_type_hints(function), meanings(function, compare)
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "progress":
            either = parser.add_mutually_exclusive_group()
            for flag, value, text in PROGRESS:
                how = {"dest": name, "const": value, "default": parameter.default, "help": text}
                either.add_argument(flag[1:3], flag, action="store_const", **how)
            continue
        default, text = parameter.default, meaning.get(name, "").partition(" In Python ")[0]
        flag = "--set" if name == "d3" else "--" + name.replace("_", "-")
        how = {"default": default, "dest": name}
        if default is parameter.empty:
            flag, how = name, {}
        if get_origin(hints[name]) is Literal:
            choices = get_args(hints[name])
            how |= {"choices": choices, "metavar": "|".join(choices)}
        elif name in ("host", "d3", "fail_if"):
            metavar = "CONDITION" if name == "fail_if" else "NAME=VALUE"
            how |= {"default": [], "action": "append", "metavar": metavar}
        elif name in PATHS:
            how |= {"type": _path, "metavar": PATHS[name]}
        elif isinstance(default, bool):
            how |= {"action": "store_true"}
        elif isinstance(default, int):
            how |= {"type": int, "metavar": "N"}
        text += "" if default in (None, False, (), parameter.empty) else f" (default: {default})"
        added: Any = parser.add_argument(flag, help=text.replace("%", "%%"), **how)
        if name in (*PATHS, "data", "folder"):
            added.complete = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}


def meanings(*documented: object) -> dict[str, str]:
    """What docstrings say of each argument or attribute, but for "as in ..."; the first counts."""
    docs = "\n".join(inspect.getdoc(each) or "" for each in documented)
    docs = re.sub(r":\w+:`~?|`", "", docs)
    found: dict[str, str] = {}
    entry = r"^    (\w+(?:, \w+)*): (?!as in\b)(.*(?:\n {8}.*)*)"
    for names, text in re.findall(entry, docs, re.MULTILINE):
        found = dict.fromkeys(names.split(", "), " ".join(text.split())) | found
    return found


def _path(given: str) -> Path:
    if not given:
        raise argparse.ArgumentTypeError("must not be empty")
    return Path(given)
