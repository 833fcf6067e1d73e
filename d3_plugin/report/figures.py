"""The pictures of reports and result pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from d3_plugin.evaluation.metrics import harmonic_means
from d3_plugin.report.statistics import CURVE_SEEN, interval

TITLES = {"baseline": "baseline", "d3": "+D³", "released": "+D³, released formulas"}
COLORS = {"baseline": "#666666", "d3": "#0072b2", "released": "#cc79a7"}
SHOWN_CLASSES = 24
"""Of each domain; of more, those that gain and those that lose most."""

_BAND_FROM = 3  # seeds
_STYLES = ("-", "--", ":", "-.")
_SIZE = (5, 3.6)
_CONFIDENCE = (
    ("teacher_real", "-", "#009e73", "real rows"),
    ("teacher_synthetic", "-", "#d55e00", "synthetic rows"),
    ("gradient_share", ":", COLORS["baseline"], "share of the gradient"),
)

Runs = Mapping[str, Sequence[Mapping[str, Any]]]
"""Test runs of one adapter, by variant, as in ``results.json``."""


def curve_figure(runs: Runs, title: str, *, detailed: bool = False) -> Figure:
    """U over S for every calibration offset, means over seeds; dots are the scores as they are.

    Args:
        runs: test runs by variant.
        title: of the picture.
        detailed: draw also lines of equal H, and the 95 % interval of U over seeds, or below
            three seeds the curve of each.
    """
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot(title=title, xlabel="S", ylabel="U", xlim=(0, 1), ylim=(0, 1))
    axes.grid(alpha=0.25)
    for variant, of_variant in runs.items():
        color = COLORS[variant]
        curves = np.array([run["curve"] for run in of_variant])
        axes.plot(CURVE_SEEN, np.mean(curves, axis=0), color=color, label=TITLES[variant])
        for run in of_variant:
            axes.plot(run["metrics"]["seen"], run["metrics"]["unseen"], "o", color=color, ms=3)
        if detailed and len(curves) >= _BAND_FROM:
            mean, half = np.transpose([[*interval(each).values()] for each in curves.T])
            axes.fill_between(CURVE_SEEN, mean - half, mean + half, color=color, alpha=0.15, lw=0)
        elif detailed:
            axes.plot(CURVE_SEEN, curves.T, color=color, alpha=0.25, linewidth=0.8)
    if detailed:
        s, u = np.meshgrid(np.linspace(0.01, 1, 60), np.linspace(0.01, 1, 60))
        steps = np.arange(0.1, 1, 0.1)
        levels = axes.contour(s, u, harmonic_means(u, s), steps, colors="#bbbbbb", linewidths=0.5)
        axes.clabel(levels, fmt=lambda level: f"H {level:.0%}", fontsize=6)
    axes.legend(title="dots: as scored")
    return figure


def class_figure(classes: Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy on each class, baseline beside +D³, the largest gain on top."""
    shown = {}
    for title, unseen in (("unseen classes", True), ("seen classes", False)):
        of_domain = [each for each in classes if each["unseen"] == unseen]
        of_domain.sort(key=lambda each: (each["d3"] - each["baseline"], each["name"]))
        if len(of_domain) > SHOWN_CLASSES:
            title = f"{SHOWN_CLASSES} of {len(of_domain)} {title}"
            of_domain = of_domain[: SHOWN_CLASSES // 2] + of_domain[-SHOWN_CLASSES // 2 :]
        shown[title] = of_domain
    rows = max(len(of_domain) for of_domain in shown.values())
    figure = Figure(figsize=(10, 1.1 + 0.2 * max(rows, 6)), layout="constrained")
    for place, (title, of_domain) in enumerate(shown.items(), 1):
        axes = figure.add_subplot(1, 2, place, xlim=(-0.02, 1.02), xlabel="accuracy")
        axes.set_title(title, fontsize=10)
        axes.grid(axis="x", alpha=0.25)
        heights = np.arange(len(of_domain))
        before, after = ([each[v] for each in of_domain] for v in ("baseline", "d3"))
        axes.hlines(heights, before, after, color="#999999", linewidth=1)
        for variant, values in (("baseline", before), ("d3", after)):
            axes.plot(values, heights, "o", color=COLORS[variant], ms=4, label=TITLES[variant])
        names = [short(each["name"]) for each in of_domain]
        axes.set_yticks(heights, names, fontsize=8, parse_math=False)
    labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(*labels, loc="outside upper center", ncols=2, fontsize=8)
    return figure


def teacher_figure(teacher: Mapping[str, Sequence[float]]) -> Figure:
    """Histogram of the teacher's in-distribution score on seen and unseen test rows."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot(title="Teacher's score of test rows", ylabel="share of rows")
    axes.set_xlabel("score (higher: more like seen)")
    look: dict[str, Any] = {"fill": True, "alpha": 0.6}
    for domain, color in (("seen", "#009e73"), ("unseen", "#d55e00")):
        axes.stairs(teacher[domain], teacher["edges"], color=color, label=domain, **look)
    axes.legend()
    return figure


def projection_figure(projection: Mapping[str, Any]) -> Figure:
    """Real and synthetic rows of some classes on two principal components of the real ones."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes: Any = figure.subplots(1, 2, sharex=True, sharey=True)
    for place, variant in zip(axes, ("baseline", "d3"), strict=True):
        place.set_title(TITLES[variant], fontsize=10)
        place.set_xlabel("first principal component")
        for number, each in enumerate(projection["classes"]):
            name = f"{short(each['name'])}, {'unseen' if each['unseen'] else 'seen'}"
            how: dict[str, Any] = {"color": f"C{number}", "ms": 5, "linestyle": ""}
            for kind, marker in (("real", "o"), (variant, "x")):
                rows = np.reshape(projection[kind][number], (-1, 2))
                label = name if kind == "real" else None
                place.plot(*rows.T, marker, mfc="none", label=label, **how)
    axes[0].set_ylabel("second principal component")
    labels = axes[0].get_legend_handles_labels()
    title = "o real, x synthetic"
    legend = figure.legend(*labels, loc="outside right upper", title=title, fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def loss_figure(runs: Runs) -> Figure:
    """The host's losses over the generator steps, means over seeds, with and without D³."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot(title="Host's losses", xlabel="generator step", ylabel="mean loss")
    for variant, of_variant in runs.items():
        steps, means = _over_steps([run["history"] for run in of_variant])
        for name, style in zip(means, _STYLES, strict=False):
            label = f"{TITLES[variant]}: {name}"
            axes.plot(steps, means[name], style, color=COLORS[variant], label=label)
    figure.legend(loc="outside lower center", ncols=len(runs), fontsize=7)
    return figure


def term_figure(of_d3: Sequence[Mapping[str, Any]]) -> Figure:
    """D³'s weighted terms, and the teacher's confidence, over the generator steps."""
    steps, means = _over_steps([run["d3_history"] for run in of_d3])
    figure = Figure(figsize=(10, _SIZE[1]), layout="constrained")
    axes: Any = figure.subplots(1, 2)
    axes[1].set(title="Teacher's confidence", xlabel="generator step", ylim=(0, 1.02))
    for name, style, color, label in _CONFIDENCE:
        if name in means:
            axes[1].plot(steps, means.pop(name), style, color=color, label=label)
    axes[0].set(title="D³'s weighted terms", xlabel="generator step", yscale="log")
    for number, (name, values) in enumerate(means.items()):
        label = name if name == "total" else f"L_{name}"
        axes[0].plot(steps, values, color=f"C{number}", label=label)
    axes[0].yaxis.set_major_formatter("{x:g}")  # not 10^-1, whose setting is slow
    axes[0].yaxis.set_minor_formatter(NullFormatter())
    for place in axes:
        if place.lines:
            place.legend(fontsize=8)
    return figure


def short(name: str) -> str:
    """A class name that leaves room for the picture."""
    return name if len(name) <= 26 else f"{name[:25]}…"


def _over_steps(
    histories: Sequence[Sequence[Mapping[str, float | None]]],
) -> tuple[list[int], dict[str, npt.NDArray[np.float64]]]:
    """Steps, and for each name the mean over those seeds that have a number there."""
    entries: dict[Any, list[Mapping[str, float | None]]] = {}
    for entry in chain(*histories):
        entries.setdefault(entry["step"], []).append(entry)
    means = {}
    for name in dict.fromkeys(k for entry in chain(*histories) for k in entry if k != "step"):
        numbers = [[v for e in each if (v := e.get(name)) is not None] for each in entries.values()]
        means[name] = np.array([np.mean(each) if each else np.nan for each in numbers])
    return list(entries), means
