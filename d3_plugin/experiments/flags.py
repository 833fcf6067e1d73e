"""The flags of a ``d3`` command: the arguments of its function, with the defaults stated there."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

HELP = {
    "adapter": "host family, import path MODULE:ATTRIBUTE of one, several separated by commas, or "
    "'all'",
    "data": "digits, digits-DRAW, or a folder with res101.mat and att_splits.mat",
    "folder": "digits, digits-DRAW, or a folder with res101.mat and att_splits.mat",
    "out": "folder for runs and results",
    "attributes": "another file with the attributes of the data folder, such as sent_splits.mat",
    "validation": "the data folder's own validation split instead of random pseudo-unseen cuts",
    "seeds": "number of seeds",
    "trials": "number of trials for the baseline, and for D³",
    "cuts": "number of pseudo-unseen cuts to choose on; with --validation, number of trainings",
    "seed": "seed of the search, and number of its first cut",
    "rounds": "pairs of blocks that are timed",
    "draws": "final classifiers per run, each on freshly drawn features",
    "preset": "settings of D³: its own defaults or the released code's",
    "variants": "with 'released' there is a further row for the released formulas",
    "settings": "JSON file with settings, as d3 tune writes it; --host and --set override it",
    "host": "change a setting of the host family; may be repeated",
    "d3": "change a setting of D³ (d3_plugin.D3Settings); may be repeated",
    "device": "cpu, cuda, cuda:1, ...",
    "threads": "CPU threads of each run; finished runs of another number are not used",
    "jobs": "number of runs at the same time on this machine",
    "backend": "where runs are made: processes of this machine, or an existing cluster",
    "scheduler": "address of the cluster",
    "shell": "shell to complete commands and flags in",
    "fail_if": "exit with status 1 if this holds, such as 'd_ausuc.high < 0'; may be repeated. "
    "[ADAPTER:][ROW.]NAME[.low|.high], then <, <=, > or >=, then a number. NAME is a metric in the "
    "summary of results.json, d_METRIC its difference to the baseline, d_METRIC_to_ROW that to "
    "another row, in fractions of 1; ROW is d3 by default; low and high end the 95%% interval",
}
DEFAULTS = {  # where the function's own default is None
    "adapter": "that of --settings, or fclswgan",
    "scheduler": "$DASK_SCHEDULER_ADDRESS or $RAY_ADDRESS",
}
PATHS = {"out": "FOLDER", "settings": "FILE", "attributes": "FILE"}
PROGRESS = (
    ("--quiet", "none", "show no progress, only results"),
    ("--verbose", "steps", "also show a line per tenth of each training"),
)


def add_flags(parser: argparse.ArgumentParser, function: Callable[..., Any]) -> None:
    """A flag for each argument of a function, of its type and with its default."""
    hints = get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "progress":
            either = parser.add_mutually_exclusive_group()
            for flag, value, text in PROGRESS:
                how = {"dest": name, "const": value, "default": parameter.default, "help": text}
                either.add_argument(flag[1:3], flag, action="store_const", **how)
            continue
        default, text = parameter.default, HELP[name]
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
        shown = DEFAULTS.get(name) if default is None else default
        text += "" if shown in (None, False, (), parameter.empty) else f" (default: {shown})"
        added: Any = parser.add_argument(flag, help=text, **how)
        if name in (*PATHS, "data", "folder"):
            added.complete = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}


def _path(given: str) -> Path:
    if not given:
        raise argparse.ArgumentTypeError("must not be empty")
    return Path(given)
