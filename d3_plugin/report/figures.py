"""The pictures of reports and result pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from d3_plugin.evaluation.metrics import harmonic_means
from d3_plugin.report.rows import COLORS, HEADLINE_COLOR, headline
from d3_plugin.report.statistics import CURVE_SEEN, Summary, interval

SHOWN_CLASSES = 24
"""Of each domain; of more, those that gain and those that lose most."""

_BAND_FROM = 3  # seeds
_STYLES = ("-", "--", ":", "-.")
_SMALL, _LARGE = (5, 3.6), (7.6, 5.6)
_TRAININGS = {"baseline": "baseline", "d3": "+D³"}
_CONFIDENCE = (
    ("teacher_real", "-", "#009e73", "real rows"),
    ("teacher_synthetic", "-", "#d55e00", "synthetic rows"),
    ("gradient_share", ":", COLORS["baseline"], "share of the gradient"),
)

Runs = Mapping[str, Sequence[Mapping[str, Any]]]
"""Test runs of one adapter, by variant, as in ``results.json``."""


def curve_figure(
    summary: Summary, keys: Sequence[str], title: str, *, wide: bool = False
) -> Figure:
    """U over S for every calibration offset, means over seeds; dots are the scores as they are.

    A row with the curve of one before it, or with none, has only its dots. If the headline's was
    not kept, that of +D³ with the defaults is drawn in its place.

    Args:
        summary: the rows of one adapter.
        keys: which of them.
        title: of the picture.
        wide: draw it large, with lines of equal H, and for the headline the 95 % interval of U over
            seeds, or below three seeds the curve of each.
    """
    figure = Figure(figsize=_LARGE if wide else _SMALL, layout="constrained")
    axes = figure.add_subplot(title=title, xlabel="S", ylabel="U", xlim=(0, 1), ylim=(0, 1))
    axes.grid(alpha=0.25)
    if wide:
        _lines_of_equal_harmonic(axes)
    drawn: list[npt.NDArray[np.float64]] = []
    for number, key in enumerate(keys):
        title, curves = summary[key]["title"], np.array(summary[key]["curves"])
        seen, unseen = (summary[key]["metrics"][m]["per_seed"] for m in ("seen", "unseen"))
        judged = key == headline(summary)
        first = judged or (key == "d3" and not summary[headline(summary)]["curves"])
        color = HEADLINE_COLOR if first else COLORS.get(key, f"C{number}")
        axes.plot(seen, unseen, "o", color=color, ms=4, zorder=3, clip_on=False)
        if not len(curves) or any(np.allclose(curves, each, atol=2e-3) for each in drawn):
            axes.plot([], "o", color=color, ms=4, label=title)
            continue
        drawn.append(curves)
        # Rivals often lie on the baseline, which is to be seen below their dashes.
        width, style = 2.2 if first else 1.3, "-" if first or key == "baseline" else "--"
        axes.plot(CURVE_SEEN, np.mean(curves, axis=0), style, color=color, lw=width, label=title)
        if wide and first:
            _spread_over_seeds(axes, curves, color)
    figure.legend(
        title="dots: the scores as they are",
        fontsize=8,
        title_fontsize=8,
        loc="outside lower center",
        ncols=2 if wide else 1,
    )
    return figure


def _spread_over_seeds(axes: Axes, curves: npt.NDArray[np.float64], color: str) -> None:
    if len(curves) >= _BAND_FROM:
        mean, half = np.array([[*interval(each).values()] for each in curves.T], np.float64).T
        axes.fill_between(CURVE_SEEN, mean - half, mean + half, color=color, alpha=0.15, lw=0)
    elif len(curves) > 1:
        axes.plot(CURVE_SEEN, curves.T, color=color, alpha=0.25, linewidth=0.8)


def _lines_of_equal_harmonic(axes: Axes) -> None:
    s, u = np.meshgrid(np.linspace(0.01, 1, 60), np.linspace(0.01, 1, 60))
    levels = np.arange(0.1, 1, 0.1)
    lines = axes.contour(s, u, harmonic_means(u, s), levels, colors="#bbbbbb", linewidths=0.5)
    axes.clabel(lines, fmt=lambda level: f"H {level:.0%}", fontsize=6)


def class_figure(classes: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> Figure:
    """Accuracy on each class, baseline beside the headline, the largest gain on top.

    Args:
        classes: as in ``results.json``.
        titles: of ``baseline`` and ``headline``.
    """
    shown = {}
    for title, unseen in (("unseen classes", True), ("seen classes", False)):
        of_domain = [each for each in classes if each["unseen"] == unseen]
        of_domain.sort(key=lambda each: (each["headline"] - each["baseline"], each["name"]))
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
        before, after = ([each[v] for each in of_domain] for v in ("baseline", "headline"))
        axes.hlines(heights, before, after, color="#999999", linewidth=1)
        for which, values in (("baseline", before), ("headline", after)):
            color = COLORS.get(which, HEADLINE_COLOR)
            axes.plot(values, heights, "o", color=color, ms=4, label=titles[which])
        names = [short(each["name"]) for each in of_domain]
        axes.set_yticks(heights, names, fontsize=8, parse_math=False)
    labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(*labels, loc="outside upper center", ncols=2, fontsize=8)
    return figure


def teacher_figure(teacher: Mapping[str, Sequence[float]]) -> Figure:
    """Histogram of the teacher's in-distribution score on seen and unseen test rows."""
    figure = Figure(figsize=_SMALL, layout="constrained")
    axes = figure.add_subplot(title="Teacher's score of test rows", ylabel="share of rows")
    axes.set_xlabel("score (higher: more like seen)")
    for domain, color in (("seen", "#009e73"), ("unseen", "#d55e00")):
        bars = teacher[domain], teacher["edges"]
        axes.stairs(*bars, color=color, label=domain, fill=True, alpha=0.6)
    axes.legend()
    return figure


def projection_figure(projection: Mapping[str, Any]) -> Figure:
    """Real and synthetic rows of some classes on two principal components of the real ones.

    One panel for each generator: that of the baseline, and that of D³ if it is another.
    """
    generators = projection["synthetic"]
    figure = Figure(figsize=(10 if len(generators) > 1 else 6.5, 4), layout="constrained")
    panels = figure.subplots(1, len(generators), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (training, synthetic) in zip(panels, generators.items(), strict=True):
        one = "baseline and +D³: one generator"
        axes.set_title(one if len(generators) == 1 else _TRAININGS[training], fontsize=10)
        axes.set_xlabel("first principal component")
        for number, each in enumerate(projection["classes"]):
            name = f"{short(each['name'])}, {'unseen' if each['unseen'] else 'seen'}"
            real, made = projection["real"][number], synthetic[number]
            for rows, marker, label in ((real, "o", name), (made, "x", None)):
                x, y = np.reshape(rows, (-1, 2)).T
                axes.plot(x, y, marker, color=f"C{number}", ms=5, ls="", mfc="none", label=label)
    panels[0].set_ylabel("second principal component")
    labels = panels[0].get_legend_handles_labels()
    title = "o real, x synthetic"
    legend = figure.legend(*labels, loc="outside right upper", title=title, fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def loss_figure(runs: Runs) -> Figure:
    """The host's losses over the generator steps, means over seeds.

    A training with the losses of one before it, as all with weight 0, is not drawn again.
    """
    figure = Figure(figsize=_SMALL, layout="constrained")
    axes = figure.add_subplot(title="Host's losses", xlabel="generator step", ylabel="mean loss")
    histories = {variant: [run["history"] for run in made] for variant, made in runs.items()}
    equal: dict[str, list[str]] = {}  # variants with the same losses
    for variant, of_variant in histories.items():
        equal.setdefault(str(of_variant), []).append(variant)
    for number, variants in enumerate(equal.values()):
        color = {"d3": HEADLINE_COLOR, **COLORS}.get(variants[0], f"C{number}")
        names = [_TRAININGS[v] for v in variants if v in _TRAININGS] or variants
        steps, means = _over_steps(histories[variants[0]])
        for name, style in zip(means, _STYLES, strict=False):
            label = f"{' and '.join(names)}: {name}"
            axes.plot(steps, means[name], style, color=color, label=label)
    figure.legend(loc="outside lower center", ncols=2, fontsize=7)
    return figure


def term_figure(of_d3: Sequence[Mapping[str, Any]]) -> Figure:
    """D³'s weighted terms, and the teacher's confidence, over the generator steps."""
    steps, means = _over_steps([run["d3_history"] for run in of_d3])
    figure = Figure(figsize=(10, _SMALL[1]), layout="constrained")
    of_terms, of_teacher = figure.subplots(1, 2)
    of_teacher.set(title="Teacher's confidence", xlabel="generator step", ylim=(0, 1.02))
    for name, style, color, label in _CONFIDENCE:
        if name in means:
            of_teacher.plot(steps, means.pop(name), style, color=color, label=label)
    of_terms.set(title="D³'s weighted terms", xlabel="generator step", yscale="log")
    for number, (name, values) in enumerate(means.items()):
        label = name if name == "total" else f"L_{name}"
        of_terms.plot(steps, values, color=f"C{number}", label=label)
    of_terms.yaxis.set_major_formatter("{x:g}")  # not 10^-1, whose setting is slow
    of_terms.yaxis.set_minor_formatter(NullFormatter())
    for axes in (of_terms, of_teacher):
        if axes.lines:
            axes.legend(fontsize=8)
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
