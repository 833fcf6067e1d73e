"""The content of ``results.json``: written by commands, read by reports."""

from __future__ import annotations

import json
import math
import platform
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from d3_plugin import __version__
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.errors import InputError
from d3_plugin.report.details import VARIANTS, details
from d3_plugin.report.statistics import Outcomes, mean_curve

VERSION = 1
"""Of the format that ``results.schema.json`` describes; files without a number are older."""


def results(
    settings: dict[str, Any], outcomes: Outcomes, summaries: dict[str, Any], notes: str = ""
) -> dict[str, Any]:
    """The content of ``results.json``; ``results.schema.json`` says what everything is."""
    return {
        "version": VERSION,
        "command": command(settings),
        "finished": max(outcome.finished for outcome in outcomes.values()),
        "notes": notes,
        "settings": settings,
        "versions": {
            "d3_plugin": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "scikit-learn": version("scikit-learn"),
            "python": platform.python_version(),
        },
        "summary": summaries,
        "details": {adapter: details(_tests(outcomes, adapter)) for adapter in summaries},
        "runs": [
            {
                **dict(zip(("adapter", "seed", "split", "variant"), key, strict=True)),
                "data": outcome.data_name,
                "metrics": asdict(outcome.evaluation.metrics),
                "teacher_auroc": outcome.evaluation.teacher_auroc,
                "generator_start": finite(outcome.generator_start),
                "generator_mean": finite(outcome.generator_mean),
                "seconds": round(outcome.seconds, 2),
                "finished": outcome.finished,
                "history": [_rounded(entry) for entry in outcome.history],
                "d3_history": [_rounded(entry) for entry in outcome.d3_history],
                "curve": mean_curve(outcome).round(4).tolist(),
            }
            for key, outcome in sorted(outcomes.items())
        ],
    }


def read_results(path: Path) -> dict[str, Any]:
    """The content of a file that a finished comparison or ablation left.

    Raises:
        InputError: it cannot be read, or is of a later version.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        later = content.get("version", 0) > VERSION
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path} is not of a finished comparison: {error}") from error
    if later:
        raise InputError(
            f"{path} has version {content['version']}, this d3_plugin knows {VERSION}: upgrade it"
        )
    return content


def runs_by_variant(content: dict[str, Any], adapter: str) -> dict[str, list[dict[str, Any]]]:
    """Test runs of one adapter in ``results.json``, by the variants that pictures show."""
    chosen: dict[str, list[dict[str, Any]]] = {}
    for variant in ("baseline", "d3", "released"):
        key = adapter, variant, "test"
        runs = [r for r in content["runs"] if (r["adapter"], r["variant"], r["split"]) == key]
        if runs:
            chosen[variant] = runs
    return chosen


def command(settings: dict[str, Any]) -> str:
    """The ``d3`` command that these settings are of, without its ``--out``."""
    from d3_plugin.experiments.families import find_family

    verb = "ablate" if "variants" in settings else "compare"
    words = ["d3", verb, "--adapter", settings.get("adapter", ",".join(settings["adapters"]))]
    for name in ("data", "attributes", "seeds", "cuts", "draws", "device", "threads"):
        if name in settings and (name, settings[name]) != ("threads", 1):
            words += [f"--{name}", str(settings[name])]
    words += ["--validation"] if settings.get("validation") else []
    words += ["--variants", "default,released"] if settings.get("released") else []
    hosts: dict[str, Any] = {}
    for adapter, used in settings["hosts"].items():
        try:
            default = asdict(find_family(adapter).settings())
        except InputError:  # of code that is not installed
            default = dict.fromkeys(used, object())
        # A setting that has been removed since cannot be given any more.
        hosts |= {k: v for k, v in used.items() if v != default.get(k, v)}
    of_d3 = settings["d3"] if verb == "compare" else settings["variants"]["d3"]
    d3 = {k: v for k, v in of_d3.items() if v != getattr(D3Settings(), k)}
    for flag, changes in (("--host", hosts), ("--set", d3)):
        for key, value in changes.items():
            words += [flag, f"{key}={value}"]
    return shlex.join(words)


def finite(value: float) -> float | None:
    """None for NaN and Inf, which JSON does not have."""
    return value if math.isfinite(value) else None


def _rounded(entry: Mapping[str, float]) -> dict[str, float | None]:
    return {k: v if k == "step" else finite(float(f"{v:.5g}")) for k, v in entry.items()}


def _tests(outcomes: Outcomes, adapter: str) -> dict[str, list[Any]]:
    of = sorted(outcomes.items())
    return {v: [o for k, o in of if (k[0], *k[2:]) == (adapter, "test", v)] for v in VARIANTS}
