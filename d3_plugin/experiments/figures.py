"""The pictures of reports and result pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from d3_plugin.evaluation.metrics import harmonic_means
from d3_plugin.experiments.run import Outcome
from d3_plugin.experiments.statistics import CURVE_SEEN

TITLES = {"baseline": "baseline", "d3": "+D³", "released": "+D³, released formulas"}
_COLORS = {"baseline": "#666666", "d3": "#0072b2", "released": "#cc79a7"}

Runs = Mapping[str, Sequence[Mapping[str, Any]]]
"""Test runs of one adapter, by variant, as in ``results.json``."""


def curve_figure(runs: Runs, title: str, per_seed: bool = False) -> Figure:
    """U over S for every calibration offset, means over seeds; dots are the scores as they are.

    Args:
        runs: test runs by variant.
        title: of the picture.
        per_seed: draw also a thin line for each seed, and lines of equal H.
    """
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel="S", ylabel="U", xlim=(0, 1), ylim=(0, 1))
    axes.grid(alpha=0.25)
    for variant, of_variant in runs.items():
        color = _COLORS[variant]
        curves = [run["curve"] for run in of_variant]
        axes.plot(CURVE_SEEN, np.mean(curves, axis=0), color=color, label=TITLES[variant])
        for run in of_variant:
            axes.plot(run["metrics"]["seen"], run["metrics"]["unseen"], "o", color=color, ms=3)
        if per_seed:
            axes.plot(CURVE_SEEN, np.transpose(curves), color=color, alpha=0.25, linewidth=0.8)
    if per_seed:
        s, u = np.meshgrid(np.linspace(0.01, 1, 60), np.linspace(0.01, 1, 60))
        steps = np.arange(0.1, 1, 0.1)
        levels = axes.contour(s, u, harmonic_means(u, s), steps, colors="#bbbbbb", linewidths=0.5)
        axes.clabel(levels, fmt=lambda level: f"H {level:.0%}", fontsize=6)
    axes.legend(title="dots: as scored")
    return figure


def teacher_figure(outcomes: Sequence[Outcome]) -> Figure:
    """Histogram of the teacher's in-distribution score on seen and unseen test rows."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.add_subplot(
        title="Teacher's score of test rows",
        xlabel="score (higher: more like seen)",
        ylabel="share of rows",
    )
    scored = [o for o in outcomes if o.evaluation.teacher_score is not None]
    score = np.concatenate([o.evaluation.teacher_score for o in scored])
    is_seen = np.concatenate([np.isin(o.evaluation.labels, o.seen_classes) for o in scored])
    edges = np.histogram_bin_edges(score, bins=40).tolist()
    for label, rows, color in (("seen", is_seen, "#009e73"), ("unseen", ~is_seen, "#d55e00")):
        share = np.full(rows.sum(), 1 / rows.sum())
        axes.hist(score[rows], bins=edges, weights=share, alpha=0.6, color=color, label=label)
    axes.legend()
    return figure


def loss_figure(runs: Runs) -> Figure:
    """The host's losses over the generator steps, means over seeds, with and without D³."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.add_subplot(title="Host's losses", xlabel="generator step", ylabel="mean loss")
    for variant, of_variant in runs.items():
        histories = [run["history"] for run in of_variant]
        steps = [entry["step"] for entry in histories[0]]
        names = [name for name in histories[0][0] if name != "step"] if steps else []
        for name, style in zip(names, ("-", "--", ":", "-."), strict=False):
            losses = np.mean([[entry[name] for entry in history] for history in histories], axis=0)
            label = f"{TITLES[variant]}: {name}"
            axes.plot(steps, losses, style, color=_COLORS[variant], label=label)
    axes.legend(fontsize=7)
    return figure
