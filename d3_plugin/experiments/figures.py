"""The pictures of a report, as PNG bytes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from d3_plugin.evaluation.metrics import harmonic_means, seen_unseen_curve
from d3_plugin.experiments.run import Outcome

_COLORS = {"baseline": "#666666", "d3": "#0072b2", "released": "#cc79a7"}
_TITLES = {"baseline": "baseline", "d3": "+D³", "released": "+D³, released"}


def _axes(title: str, xlabel: str, ylabel: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(5.2, 3.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.25)
    return figure, axes


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def mean_curve(outcome: Outcome, seen: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """U at the values ``seen`` (M,) of S on the seen-unseen curve, mean over draws."""
    curves = []
    for draw in outcome.evaluation.scores.astype(np.float64):
        _, u, s = seen_unseen_curve(
            draw, outcome.evaluation.labels, outcome.seen_classes, outcome.unseen_classes
        )
        curves.append(np.interp(seen, s, u, right=0.0))
    mean: npt.NDArray[np.float64] = np.mean(curves, axis=0)
    return mean


def seen_unseen_figure(outcomes: dict[str, list[Outcome]]) -> bytes:
    """U over S for every calibration offset; a thin line per seed, the thick one their mean.

    Args:
        outcomes: test outcomes of the seeds, by variant.
    """
    figure, axes = _axes("Seen-unseen curve", "S (seen accuracy)", "U (unseen accuracy)")
    grid = np.linspace(0, 1, 201)
    for variant, runs in outcomes.items():
        color = _COLORS[variant]
        means = []
        for run in runs:
            means.append(mean_curve(run, grid))
            axes.plot(grid, means[-1], color=color, alpha=0.25, linewidth=0.8)
            m = run.evaluation.metrics
            axes.plot(m.seen, m.unseen, "o", color=color, markersize=4)
        axes.plot(grid, np.mean(means, axis=0), color=color, linewidth=2, label=_TITLES[variant])
    _draw_harmonic_levels(axes)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.legend(title="dots: as scored")
    return _png(figure)


def _draw_harmonic_levels(axes: Any) -> None:
    s, u = np.meshgrid(np.linspace(0.01, 1, 60), np.linspace(0.01, 1, 60))
    levels = axes.contour(
        s,
        u,
        harmonic_means(u, s),
        levels=np.arange(0.1, 1, 0.1),
        colors="#bbbbbb",
        linewidths=0.5,
    )
    axes.clabel(levels, fmt=lambda level: f"H {level:.0%}", fontsize=6)


def teacher_figure(outcomes: list[Outcome]) -> bytes:
    """Histogram of the teacher's in-distribution score on seen and unseen test rows."""
    figure, axes = _axes(
        "Teacher's score of test rows", "score (higher: more like seen)", "share of rows"
    )
    values: dict[str, list[Any]] = {"seen": [], "unseen": []}
    for run in outcomes:
        score = run.evaluation.teacher_score
        if score is None:
            continue
        is_seen = np.isin(run.evaluation.labels, run.seen_classes)
        values["seen"].append(score[is_seen])
        values["unseen"].append(score[~is_seen])
    both = {domain: np.concatenate(rows) for domain, rows in values.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(both.values())), bins=40)
    for domain, color in (("seen", "#009e73"), ("unseen", "#d55e00")):
        rows = both[domain]
        share = np.full(len(rows), 1 / len(rows))
        axes.hist(rows, bins=edges, weights=share, alpha=0.6, color=color, label=domain)
    axes.legend()
    return _png(figure)


def loss_figure(outcomes: dict[str, list[Outcome]]) -> bytes:
    """The host's losses over the generator steps, means over seeds, with and without D³."""
    figure, axes = _axes("Host's losses", "generator step", "mean loss")
    styles = ["-", "--", ":", "-."]
    for variant, runs in outcomes.items():
        steps = [entry["step"] for entry in runs[0].history]
        names = [name for name in runs[0].history[0] if name != "step"] if steps else []
        for name, style in zip(names, styles, strict=False):
            losses = np.mean([[entry[name] for entry in run.history] for run in runs], axis=0)
            axes.plot(
                steps,
                losses,
                style,
                color=_COLORS[variant],
                label=f"{_TITLES[variant]}: {name}",
            )
    axes.legend(fontsize=7)
    return _png(figure)
