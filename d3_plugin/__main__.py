"""The command line: ``d3`` or ``python -m d3_plugin``."""

from __future__ import annotations

import argparse
import ast
import errno
import inspect
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from d3_plugin import __version__
from d3_plugin.checks import did_you_mean
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.errors import D3Error, D3Warning, FailedConditionError, InputError, MissingExtraError
from d3_plugin.experiments import ablate, compare, tune
from d3_plugin.experiments.bench import bench
from d3_plugin.experiments.run import find_family
from d3_plugin.hooks.manager import host_families, make_manager

# The flags of a command are the arguments of its function, with the defaults stated there.
HELP = {
    "adapter": "host family, several separated by commas, or 'all'",
    "data": "digits, digits-DRAW, or a folder with res101.mat and att_splits.mat",
    "out": "folder for runs and results",
    "seeds": "number of seeds",
    "trials": "number of trials for the baseline, and for D³",
    "cuts": "number of pseudo-unseen cuts that choices are made on",
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
    "fail_if": "exit with status 1 if this holds, such as 'd_ausuc.high < 0'; may be repeated. "
    "[ADAPTER:][ROW.]NAME[.low|.high], then <, <=, > or >=, then a number. NAME is a metric in the "
    "summary of results.json, d_METRIC its difference to the baseline, d_METRIC_to_ROW that to "
    "another row, in fractions of 1; ROW is d3 by default; low and high end the 95%% interval",
}
DEFAULTS = {  # where the function's own default is None
    "adapter": "that of --settings, or fclswgan",
    "scheduler": "$DASK_SCHEDULER_ADDRESS or $RAY_ADDRESS",
}

EXIT = (
    "Exit status: 0 done; 1 a condition of --fail-if holds; 2 bad input, failed runs, or output "
    "that cannot be written; 130 interrupted."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status, see :data:`EXIT`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may have no "±" or "³"
    warnings.simplefilter("always", D3Warning)
    traceback, usage = False, ""
    try:
        try:
            options = parse(arguments)
            function, usage = options.pop("function"), options.pop("usage")
            traceback = options.pop("traceback")
            for name in options.keys() & {"host", "d3"}:
                options[name] = parse_settings(options[name])
            function(**options)
        finally:
            sys.stdout.flush()
    except FailedConditionError as error:
        print(*(f"d3: {line}" for line in str(error).splitlines()), sep="\n", file=sys.stderr)
        return 1
    except D3Error as error:
        if traceback:
            raise
        print(f"{usage if isinstance(error, InputError) else ''}d3: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        # Nothing may be left in the buffer, or Python tries again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"d3: output cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\nd3: interrupted. Finished runs are kept: to continue, start the same command again "
            "with the same --out.",
            file=sys.stderr,
        )
        return 130
    return 0


def parse(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Arguments of a command's function by name, and ``function``, ``usage`` and ``traceback``."""
    parser = argparse.ArgumentParser(
        prog="d3",
        description="D³GZSL as an add-on: in-distribution dual-space and "
        "out-of-distribution batch distillation for generative zero-shot learning.",
        epilog=EXIT,
    )
    parser.add_argument("--version", action="version", version=f"d3_plugin {__version__}")
    commands = parser.add_subparsers(title="commands", required=True)

    parsers = {}
    for function in (compare, report, bench, ablate, tune, adapters, settings):
        text = (inspect.getdoc(function) or "").split("\n\nArgs:")[0].replace("``", "")
        command = commands.add_parser(
            function.__name__, help=text.split("\n\n")[0], description=text, epilog=EXIT
        )
        _add_flags(command, function)
        command.add_argument("--traceback", action="store_true", help="show tracebacks of errors")
        command.set_defaults(function=function, usage=command.format_usage())
        parsers[function] = command
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        command = parsers[options.function]
        flags = [flag for flag in command.format_usage().replace("[", " ").split() if "--" in flag]
        hint = did_you_mean(unknown[0], flags)
        command.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    return vars(options)


def _add_flags(parser: argparse.ArgumentParser, function: Callable[..., Any]) -> None:
    """A flag for each argument of a function, of its type and with its default."""
    hints = get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        default, text = parameter.default, HELP[name]
        if default is parameter.empty:
            parser.add_argument(name, type=_path, metavar="FOLDER", help=text)
            continue
        how: dict[str, Any] = {"default": default}
        if name in ("host", "d3", "fail_if"):
            metavar = "CONDITION" if name == "fail_if" else "NAME=VALUE"
            how = {"default": [], "action": "append", "metavar": metavar}
        elif get_origin(hints[name]) is Literal:
            choices = get_args(hints[name])
            how |= {"choices": choices, "metavar": "|".join(choices)}
        elif name in ("out", "settings"):
            how |= {"type": _path, "metavar": "FOLDER" if name == "out" else "FILE"}
        elif isinstance(default, int):
            how |= {"type": int, "metavar": "N"}
        shown = DEFAULTS.get(name) if default in (None, ()) else default
        text += "" if shown is None else f" (default: {shown})"
        flag = "set" if name == "d3" else name.replace("_", "-")
        parser.add_argument(f"--{flag}", dest=name, help=text, **how)


def _path(given: str) -> Path:
    if not given:
        raise argparse.ArgumentTypeError("must not be empty")
    return Path(given)


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """``["epochs=20", "form=bce"]`` as ``{"epochs": 20, "form": "bce"}``.

    Raises:
        InputError: a string without ``=``.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InputError(f"settings are given as NAME=VALUE, got {pair!r}")
        try:
            literal = {"true": "True", "false": "False", "none": "None"}.get(value.lower(), value)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "1is" is a string, not bad Python
                settings[name] = ast.literal_eval(literal)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            settings[name] = value
    return settings


def report(out: Path) -> None:
    """Write the report of a finished comparison or ablation again, without training.

    Everything is made from results.json and ablation.json in the folder.
    """
    try:
        from d3_plugin.experiments.report import render_again
    except ModuleNotFoundError as error:
        what = f"this needs {error.name}: pip install 'd3-plugin[compare]'"
        raise MissingExtraError(what) from error
    print(*render_again(out), sep="\n")


def adapters() -> None:
    """List the host families that plugins provide."""
    for family in host_families(make_manager()).values():
        print(f"{family.name:<12} {family.summary}")


def settings(adapter: str = "all") -> None:
    """List the settings of D³ and of host families: names, defaults and meaning."""
    manager = make_manager()
    names = host_families(manager) if adapter == "all" else adapter.split(",")
    kinds = {"D³, for --set": D3Settings}
    kinds |= {f"{name}, for --host": find_family(name).settings for name in names}
    for title, kind in kinds.items():
        print(f"{title}:")
        docs = "\n".join(inspect.getdoc(each) or "" for each in kind.__mro__)
        docs = re.sub(r":\w+:`~?|`", "", docs)
        meaning: dict[str, str] = {}
        for of, text in re.findall(r"^    (\w+(?:, \w+)*): (.*(?:\n {8}.*)*)", docs, re.MULTILINE):
            meaning = dict.fromkeys(of.split(", "), " ".join(text.split())) | meaning
        for each in fields(kind):
            print(f"  {each.name}={each.default}: {meaning.get(each.name, '')}")


if __name__ == "__main__":
    sys.exit(main())
