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
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from d3_plugin import __version__
from d3_plugin.checks import did_you_mean
from d3_plugin.data import digest, load
from d3_plugin.data.parts import PARTS
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.errors import D3Error, D3Warning, FailedConditionError, InputError
from d3_plugin.experiments import ablate, compare, tune
from d3_plugin.experiments.bench import bench
from d3_plugin.experiments.flags import add_flags, meanings
from d3_plugin.experiments.preflight import check_installed
from d3_plugin.experiments.run import find_family
from d3_plugin.hooks.manager import host_families, make_manager

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
    with warnings.catch_warnings():
        warnings.simplefilter("always", D3Warning)
        warnings.showwarning = _show_warning
        return _run(arguments)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    print(f"d3: {category.__name__}: {message}", file=sys.stderr)


def _run(arguments: Sequence[str] | None) -> int:
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
    arguments = sys.argv[1:] if arguments is None else arguments
    parser, commands = make_parser()
    if not arguments:
        parser.print_help(sys.stderr)
        parser.exit(2)
    if arguments[0] not in commands and not arguments[0].startswith("-"):
        parser.error(f"no command {arguments[0]!r}{did_you_mean(arguments[0], list(commands))}")
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        command = commands[arguments[0]]
        flags = re.findall(r"--[\w-]+", command.format_usage())
        hint = did_you_mean(unknown[0], flags)
        command.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    return vars(options)


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
    for function in (compare, ablate, tune, report, bench, data, adapters, settings, completion):
        text = (inspect.getdoc(function) or "").split("\n\nArgs:")[0].replace("``", "")
        command = commands.add_parser(
            function.__name__, help=text.split("\n\n")[0], description=text, epilog=EXIT
        )
        add_flags(command, function)
        command.add_argument("--traceback", action="store_true", help="show tracebacks of errors")
        command.set_defaults(function=function, usage=command.format_usage())
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


def data(folder: str, *, attributes: Path | None = None, validation: bool = False) -> None:
    """Show what a data folder holds, or what is wrong with it.

    Args:
        folder: ``digits``, ``digits-DRAW``, or a folder with ``res101.mat`` and ``att_splits.mat``.
        attributes: as in :func:`d3_plugin.experiments.compare`.
        validation: show the folder's own validation split.
    """
    found = load(folder, attributes=attributes, validation=validation)
    names = [found.class_names[c] for c in found.unseen_classes.tolist()]
    print(f"{found.name}: {len(found.seen_classes)} seen and {len(names)} unseen classes")
    for part in PARTS:
        per_class = getattr(found, f"{part}_labels").unique(return_counts=True)[1]
        rows = f"{per_class.sum()} rows, {per_class.min()} to {per_class.max()} per class"
        print(f"  {part:<12} {rows}")
    for what in ("train_features", "attributes"):
        rows = getattr(found, what)
        low, high = rows.norm(dim=1).aminmax()
        shown = f"width {rows.shape[1]}, values in {rows.min():.4g} to {rows.max():.4g}, norms"
        print(f"  {what.removeprefix('train_'):<12} {shown} {low:.4g} to {high:.4g}")
    print(f"  unseen       {', '.join(names)}")
    print(f"  digest       {digest(folder, attributes) or 'none: built in'}")


def report(out: Path) -> None:
    """Write the report of a finished comparison or ablation again, without training.

    Everything is made from results.json and ablation.json in the folder.

    Args:
        out: the folder, ``--out`` of the command.
    """
    check_installed("compare", "jinja2", "jsonschema", "matplotlib")
    from d3_plugin.report.page import render_again

    print(*render_again(out), sep="\n")


def adapters() -> None:
    """List the host families that plugins provide."""
    for family in host_families(make_manager()).values():
        print(f"{family.name:<12} {family.summary}")


def settings(adapter: str = "all") -> None:
    """List the settings of D³ and of host families: names, defaults and meaning.

    Args:
        adapter: a host family, its import path, several separated by commas, or ``all``.
    """
    names = host_families(make_manager()) if adapter == "all" else adapter.split(",")
    kinds = {"D³, for --set": D3Settings}
    kinds |= {f"{name}, for --host": find_family(name).settings for name in names}
    for title, kind in kinds.items():
        print(f"{title}:")
        meaning = meanings(*kind.__mro__)
        for each in fields(kind):
            print(f"  {each.name}={each.default}: {meaning.get(each.name, '')}")


def completion(shell: Literal["bash", "zsh", "tcsh"]) -> None:
    """Print a script that completes commands and flags: eval "$(d3 completion bash)".

    Args:
        shell: in which they are completed.
    """
    check_installed("completion", "shtab")
    import shtab

    print(shtab.complete(make_parser()[0], shell))


if __name__ == "__main__":
    sys.exit(main())
