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
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from d3_plugin import __version__
from d3_plugin.checks import did_you_mean
from d3_plugin.data import attributes_fit, digest, load
from d3_plugin.data.parts import PARTS
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.errors import D3Error, D3Warning, FailedConditionError, InputError
from d3_plugin.experiments import ablate, compare, tune
from d3_plugin.experiments.bench import bench
from d3_plugin.experiments.families import find_family
from d3_plugin.experiments.flags import add_flags, setting_lines
from d3_plugin.experiments.machines import check_installed
from d3_plugin.hooks.manager import host_families, make_manager

EXIT = (
    "Exit status: 0 done; 1 a condition of --fail-if holds; 2 bad input, failed runs, or output "
    "that cannot be written; 3 an unexpected error; 130 interrupted; 141 nobody reads the output."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status, see :data:`EXIT`.
    """
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may have no "±" or "³"
    with warnings.catch_warnings():
        warnings.simplefilter("always", D3Warning)
        warnings.showwarning = _show_warning
        return _run(arguments)


def _open_standard_streams() -> None:
    """Write to nowhere where a shell's ``>&-`` has closed them, here and in worker processes.

    The next file that is opened would take their place.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    print(f"d3: {category.__name__}: {message}", file=sys.stderr)


def _run(arguments: Sequence[str] | None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        try:
            given = parse(arguments)
            del given["traceback"]
            print(given.pop("run")(**given))
        except FailedConditionError as error:
            print(error.results)
            raise
        finally:
            sys.stdout.flush()
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.ENOSPC):
            return _unwritten(error)
        if "--traceback" in arguments:
            traceback.print_exc()
        print(_message(error), file=sys.stderr)
        return (
            1 if isinstance(error, FailedConditionError) else 2 if isinstance(error, D3Error) else 3
        )
    except KeyboardInterrupt:
        print(
            "\nd3: interrupted. Finished runs, and checkpoints that were written, are kept: to "
            "continue, start the same command again with the same --out.",
            file=sys.stderr,
        )
        return 130
    return 0


def _message(error: Exception) -> str:
    if isinstance(error, FailedConditionError):
        return "\n".join(f"d3: {line}" for line in str(error).splitlines())
    if isinstance(error, D3Error):
        return f"d3: {error}"
    return (
        f"d3: unexpected {type(error).__name__}: {error}\n"
        "d3: --traceback shows where; it is a mistake of d3_plugin or of a plugin: please report it"
    )


def _unwritten(error: OSError) -> int:
    """The exit status where standard output takes no more."""
    # Nothing may be left in the buffer, or Python tries again when it ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno == errno.EPIPE:  # as of "| head": no error, and the status that a signal gives
        return 141
    print(f"d3: output cannot be written: {error.strerror}", file=sys.stderr)
    return 2


def parse(arguments: Sequence[str]) -> dict[str, Any]:
    """Arguments of a command's function by name, and ``run``, the function, and ``traceback``."""
    parser, commands = make_parser()
    if not arguments:
        parser.print_help(sys.stderr)
        parser.exit(2)
    if arguments[0] not in commands and not arguments[0].startswith("-"):
        parser.error(f"no command {arguments[0]!r}{did_you_mean(arguments[0], list(commands))}")
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        flag = unknown[0].partition("=")[0]
        flags = {name: _flags(command) for name, command in commands.items()}
        hint = did_you_mean(flag, flags[arguments[0]])
        if others := [name for name in flags if flag in flags[name]]:
            hint = f"; {flag} is of d3 {', '.join(others)}"
        commands[arguments[0]].error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    given = vars(options)
    for name in given.keys() & {"host", "d3"}:
        given[name] = parse_settings(given[name])
    return given


def _flags(command: argparse.ArgumentParser) -> list[str]:
    return re.findall(r"--[\w-]+", command.format_usage())


def make_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser of ``d3``, and those of its commands by name."""
    parser = argparse.ArgumentParser(
        prog="d3",
        description="D³GZSL as an add-on: in-distribution dual-space and "
        "out-of-distribution batch distillation for generative zero-shot learning.",
        epilog=EXIT,
    )
    parser.add_argument("--version", action="version", version=f"d3_plugin {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for function in COMMANDS:
        text = re.split(r"\n\n(?:The arguments|Args)", inspect.getdoc(function) or "")[0]
        text = text.replace("``", "")
        command = commands.add_parser(
            function.__name__, help=text.split("\n\n")[0], description=text, epilog=EXIT
        )
        add_flags(command, function)
        command.add_argument("--traceback", action="store_true", help="show tracebacks of errors")
        command.set_defaults(run=function)
    return parser, commands.choices


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


def data(folder: str, attributes: Path | None = None, validation: bool = False) -> str:
    """Show what a data folder holds, or what is wrong with it.

    Args:
        folder: ``digits``, ``digits-DRAW``, or a folder with ``res101.mat`` and ``att_splits.mat``.
        attributes: another file with the attributes of the data folder.
        validation: show the folder's own validation split.
    """
    found = load(folder, attributes=attributes, validation=validation)
    names = [found.class_names[c] for c in found.unseen_classes.tolist()]
    lines = [f"{found.name}: {len(found.seen_classes)} seen and {len(names)} unseen classes"]
    for part in PARTS:
        per_class = getattr(found, f"{part}_labels").unique(return_counts=True)[1]
        rows = f"{per_class.sum()} rows, {per_class.min()} to {per_class.max()} per class"
        lines.append(f"  {part:<12} {rows}")
    for what in ("train_features", "attributes"):
        rows = getattr(found, what)
        low, high = rows.norm(dim=1).aminmax()
        shown = f"width {rows.shape[1]}, values in {rows.min():.4g} to {rows.max():.4g}, norms"
        lines.append(f"  {what.removeprefix('train_'):<12} {shown} {low:.4g} to {high:.4g}")
    own, classes = attributes_fit(found)
    lines.append(
        f"  class order  attributes find the own mean of {own} of {classes} seen classes, each "
        "left out in turn (about 1 by chance)"
    )
    lines.append(f"  unseen       {', '.join(names)}")
    lines.append(f"  digest       {digest(folder, attributes) or 'none: built in'}")
    return "\n".join(lines)


def report(out: Path) -> str:
    """Write the report of a finished comparison or ablation again, without training.

    Everything is made from results.json and ablation.json in the folder.

    Args:
        out: the folder, ``--out`` of the command.
    """
    check_installed("compare", "jinja2", "jsonschema", "matplotlib")
    from d3_plugin.report.page import render_again

    return "\n".join(map(str, render_again(out)))


def adapters() -> str:
    """List the host families that plugins provide."""
    families = host_families(make_manager()).values()
    return "\n".join(f"{family.name:<12} {family.summary}" for family in families)


def settings(adapter: str = "all") -> str:
    """List the settings of D³ and of host families: names, defaults, allowed values, meaning.

    Args:
        adapter: a host family, its import path, several separated by commas, or ``all``.
    """
    names = list(host_families(make_manager())) if adapter == "all" else adapter.split(",")
    kinds = {"D³, for --set": D3Settings}
    kinds |= {f"{name}, for --host": find_family(name).settings for name in names}
    sections = ["\n  ".join([f"{title}:", *setting_lines(kind)]) for title, kind in kinds.items()]
    return "\n".join(sections)


def completion(shell: Literal["bash", "zsh", "tcsh"]) -> str:
    """Print a script that completes commands and flags: eval "$(d3 completion bash)".

    Args:
        shell: in which they are completed.
    """
    check_installed("completion", "shtab")
    import shtab

    return str(shtab.complete(make_parser()[0], shell))


COMMANDS = (compare, ablate, tune, report, bench, data, adapters, settings, completion)
"""Their arguments are the flags, and what they return is printed."""


if __name__ == "__main__":
    sys.exit(main())
