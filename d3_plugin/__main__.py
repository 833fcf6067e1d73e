"""The command line: ``d3`` or ``python -m d3_plugin``."""

from __future__ import annotations

import argparse
import io
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from d3_plugin import __version__
from d3_plugin.checks import setting_problems
from d3_plugin.distillation.settings import SCORING, D3Settings
from d3_plugin.errors import D3Error, D3Warning, InputError
from d3_plugin.experiments.options import (
    adapter_names,
    add_settings,
    add_shared,
    parse_settings,
    read_options,
)
from d3_plugin.hooks.manager import host_families, make_manager


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
        "stacking, logit adjustment and the sum of its draws on the baseline's own scores, and "
        "writes a report.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_shared(compare, out="runs/compare")
    add = compare.add_argument
    add("--seeds", type=int, default=3, help="how many seeds")
    add("--cuts", type=int, default=3, help="pseudo-unseen cuts that offsets are chosen on")
    add("--preset", choices=["default", "released"], default="default", help="settings of D³")
    add(
        "--variants",
        choices=["default", "default,released"],
        default="default",
        help="with a further row for the released formulas, or without",
    )
    compare.set_defaults(command=_compare)

    bench = commands.add_parser(
        "bench",
        help="time a generator step with and without D³",
        description="Times blocks of generator steps of the baseline and of +D³ in turn, and says "
        "where the time goes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = bench.add_argument
    add("--adapter", default="all", help="host family, several with commas, or 'all'")
    add("--data", default="digits", help="digits, digits-DRAW, or a folder with the two .mat files")
    add("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    add("--rounds", type=int, default=5, help="pairs of blocks")
    add_settings(bench)
    add("--traceback", action="store_true", help="show where an error came from")
    bench.set_defaults(command=_bench)

    ablate = commands.add_parser(
        "ablate",
        help="train D³ with parts of it switched off and report",
        description="Trains each baseline without D³, with single losses, with all of D³ and with "
        "the released formulas, on the same seeds. Nothing is chosen. Runs that d3 compare made "
        "in the same --out are used.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_shared(ablate, out="runs/ablate")
    ablate.add_argument("--seeds", type=int, default=3, help="how many seeds")
    ablate.set_defaults(command=_ablate)

    tune = commands.add_parser(
        "tune",
        help="choose settings on pseudo-unseen classes cut from the training classes",
        description="Random search for the baseline, then with the same number of trials for D³ "
        "on the chosen baseline. Test rows are dropped first. Settings given with --host and "
        "--set stay as they are; those of --settings are where the search starts.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_shared(tune, out="runs/tune")
    add = tune.add_argument
    add("--trials", type=int, default=20, help="for the baseline, and as many for D³")
    add("--cuts", type=int, default=3, help="pseudo-unseen cuts that a trial is scored on")
    add("--seed", type=int, default=0, help="of the search, and number of the first cut")
    tune.set_defaults(command=_tune)

    adapters = commands.add_parser("adapters", help="list the host families that plugins provide")
    adapters.add_argument("--traceback", action="store_true", help=argparse.SUPPRESS)
    adapters.set_defaults(command=_adapters)
    return parser


def _released(changes: dict[str, Any]) -> D3Settings:
    """The released formulas with the user's settings, but scored as they are: without offset."""
    return D3Settings.released(**{k: v for k, v in changes.items() if k not in SCORING})


def _compare(options: argparse.Namespace) -> None:
    from d3_plugin.experiments import compare  # scikit-learn and scipy take a second to import

    chosen = read_options(options)
    make = D3Settings.released if options.preset == "released" else D3Settings
    released = _released(chosen.d3) if "released" in options.variants else None
    compare(
        chosen.adapters,
        options.data,
        options.out,
        seeds=options.seeds,
        cuts=options.cuts,
        **chosen.how,
        host=chosen.all_host,
        d3=make(**chosen.all_d3),
        released=released,
    )


def _ablate(options: argparse.Namespace) -> None:
    from d3_plugin.experiments import ablate

    chosen = read_options(options)
    ablate(
        chosen.adapters,
        options.data,
        options.out,
        seeds=options.seeds,
        **chosen.how,
        host=chosen.all_host,
        d3=D3Settings(**chosen.all_d3),
        released=_released(chosen.d3),
    )


def _tune(options: argparse.Namespace) -> None:
    from d3_plugin.experiments import tune

    chosen = read_options(options)
    if len(chosen.adapters) != 1:
        raise InputError(f"d3 tune takes one adapter at a time, got {', '.join(chosen.adapters)}")
    tune(
        chosen.adapters[0],
        options.data,
        options.out,
        trials=options.trials,
        cuts=options.cuts,
        seed=options.seed,
        **chosen.how,
        start=chosen.file,
        host=chosen.host,
        d3=chosen.d3,
    )


def _bench(options: argparse.Namespace) -> None:
    from d3_plugin.experiments.bench import bench

    changes = parse_settings(options.d3)
    setting_problems("settings of D³", D3Settings, changes).raise_as(InputError)
    for adapter in adapter_names(options.adapter):
        cost = bench(
            adapter,
            options.data,
            device=options.device,
            rounds=options.rounds,
            host=parse_settings(options.host),
            d3=D3Settings(**changes),
        )
        print(f"{cost.table}\n{adapter}: {cost}\n", flush=True)


def _adapters(options: argparse.Namespace) -> None:
    for family in host_families(make_manager()).values():
        print(f"{family.name:<12} {family.summary}")


if __name__ == "__main__":
    sys.exit(main())
