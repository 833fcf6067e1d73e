"""The command line: ``d3`` or ``python -m d3_plugin``."""

from __future__ import annotations

import argparse
import ast
import io
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from d3_plugin._version import __version__
from d3_plugin.errors import D3Error, D3Warning, InputError
from d3_plugin.manager import host_families, make_manager
from d3_plugin.setting_types import setting_problems
from d3_plugin.settings import D3Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status: 0 done, 2 bad input, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may have no "±" or "³"
    options = _parser().parse_args(arguments)
    warnings.simplefilter("always", D3Warning)
    try:
        options.command(options)
    except D3Error as error:
        if options.traceback:
            raise
        print(f"d3: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\nd3: interrupted. Finished runs are kept: start the same command again, with the "
            "same --out, and it goes on from there.",
            file=sys.stderr,
        )
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="d3",
        description="D³GZSL as an add-on: in-distribution dual-space and "
        "out-of-distribution batch distillation for generative zero-shot learning.",
    )
    parser.add_argument("--version", action="version", version=f"d3_plugin {__version__}")
    commands = parser.add_subparsers(title="commands", required=True)

    compare = commands.add_parser(
        "compare",
        help="train baselines with and without D³ and report",
        description="Trains each baseline with and without D³ on the same seeds, adds calibrated "
        "stacking and logit adjustment on the baseline's own scores, and writes a report.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = compare.add_argument
    add("--adapter", default="fclswgan", help="host family, several with commas, or 'all'")
    add("--data", default="digits", help="digits, digits-DRAW, or a folder with the two .mat files")
    add("--seeds", type=int, default=3, help="how many seeds")
    add("--jobs", type=int, default=1, help="runs at the same time on this machine")
    _add_cluster(compare)
    add("--out", type=Path, default=Path("runs/compare"), help="folder of the results")
    add("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    add("--draws", type=int, default=3, help="final classifiers per run, on fresh features each")
    add("--preset", choices=["default", "released"], default="default", help="settings of D³")
    _add_settings(compare, "--set", "d3", "a setting of D³ (d3_plugin.D3Settings)")
    _add_settings(compare, "--host", "host", "a setting of the host family")
    add("--traceback", action="store_true", help="show where an error came from")
    compare.set_defaults(command=_compare)

    adapters = commands.add_parser("adapters", help="list the host families that plugins provide")
    adapters.add_argument("--traceback", action="store_true", help=argparse.SUPPRESS)
    adapters.set_defaults(command=_adapters)
    return parser


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend",
        choices=["loky", "dask", "ray"],
        default="loky",
        help="where runs are made: processes of this machine, or an existing cluster",
    )
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="of the cluster; without it what DASK_SCHEDULER_ADDRESS or RAY_ADDRESS says",
    )


def _add_settings(parser: argparse.ArgumentParser, flag: str, name: str, text: str) -> None:
    parser.add_argument(
        flag,
        dest=name,
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help=f"change {text}; may be repeated",
    )


def _compare(options: argparse.Namespace) -> None:
    from d3_plugin.compare import compare  # scikit-learn and scipy take a second to import

    families = list(host_families(make_manager()))
    adapters = families if options.adapter == "all" else options.adapter.split(",")
    changes = parse_settings(options.d3)
    setting_problems("settings of D³", D3Settings, changes).raise_as(InputError)
    released = options.preset == "released"
    compare(
        adapters,
        options.data,
        options.out,
        seeds=options.seeds,
        jobs=options.jobs,
        backend=options.backend,
        scheduler=options.scheduler,
        device=options.device,
        draws=options.draws,
        host=parse_settings(options.host),
        d3=D3Settings.released(**changes) if released else D3Settings(**changes),
    )


def _adapters(options: argparse.Namespace) -> None:
    for family in host_families(make_manager()).values():
        print(f"{family.name:<12} {family.summary}")


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
