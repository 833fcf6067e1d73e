"""The sentences at the head of the result page, checked against the results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from d3_plugin import InputError
from d3_plugin.errors import Problems
from d3_plugin.report.statistics import differences, paired
from d3_plugin.report.tables import cell

Summary = dict[str, Any]
Contents = Sequence[tuple[str, dict[str, Any]]]
"""Names and contents of ``results.json`` or ``ablation.json``."""
Cells = list[tuple[str, Summary]]


def claims(comparisons: Contents, ablations: Contents, end_to_end: Contents = ()) -> list[str]:
    """The sentences at the head of the page, with their figures.

    Args:
        comparisons, ablations: names and contents.
        end_to_end: comparisons in which D³'s losses trained the generator, too.

    Raises:
        InputError: lists sentences that the results do not bear out.
    """
    cells = [
        (f"{adapter}, {data_of(content)}", summary)
        for _, content in comparisons
        for adapter, summary in content["summary"].items()
    ]
    real = [summary for name, summary in cells if ", digits" not in name]
    parts = [
        (f"{adapter}, {data_of(content)}", summary)
        for _, content in ablations
        for adapter, summary in content["summary"].items()
        if "cls" in summary
    ]
    trained = [*real, *(s for name, s in parts if ", digits" not in name)]
    released = [change(s, "released", "baseline", "ausuc") for s in trained if "released" in s]
    lost = sorted(-100 * mean for _, mean, _ in released) or [0.0]
    distilled = [change(s, "d3", "cls", "ausuc") for _, s in parts]
    same = [
        summary[row]["metrics"]["ausuc"]["per_seed"]
        for _, summary in cells
        for row in ("baseline", "d3_host")
    ]
    trained_too = [
        (f"{adapter}, {data_of(content)}", summary)
        for _, content in end_to_end
        for adapter, summary in content["summary"].items()
    ]
    of_generator = (
        " Trained on them end to end, it changes the AUSUC of the host's own classifier by "
        f"{listed(trained_too, 'd3_host', 'baseline', 'ausuc')}."
        if trained_too
        else ""
    )
    lacks = [1 - s["baseline"]["metrics"]["ausuc"]["mean"] for s in real]
    gains = [change(s, "d3_chosen", "baseline", "ausuc")[1] for s in real]
    share = [gain / lack for gain, lack in zip(gains, lacks, strict=True)]
    told = [
        (
            "**AUSUC**: +D³, tuned on validation classes like its rivals, "
            f"{counted(cells, 'd3_chosen', 'baseline', 'ausuc')}.",
            True,
        ),
        (
            "**Ensembling**: in AUSUC, against an ensemble of the baseline's classifiers, one per "
            "draw of synthetic features, it "
            f"{counted(cells, 'd3_chosen', 'baseline_summed', 'ausuc')}.",
            True,
        ),
        (
            "**H**: against the baseline with calibrated stacking, the cheapest rival, it "
            f"{counted(cells, 'd3_chosen', 'baseline_calibrated', 'harmonic')}.",
            True,
        ),
        (
            "**Not the losses**: the generator is left alone, as no weight of D³'s losses that was "
            f"tried made a better one ([experiments.md](experiments.md)).{of_generator} The "
            "authors' released formulas, which train it, too, lose "
            f"{lost[0]:.1f} to {lost[-1]:.1f} points of AUSUC on real data. In the student, all "
            "losses together change AUSUC by "
            f"{listed(parts, 'd3', 'cls', 'ausuc')} over cross-entropy (`L_cls`) alone.",
            same[::2] == same[1::2]
            and all(change(s, "d3_host", "baseline", "ausuc")[0] <= 0 for _, s in trained_too)
            and all(low <= 0 for low, _, _ in released)
            and (not distilled or any(low <= 0 for low, _, _ in distilled)),
        ),
        (
            "**Where it helps**: where the baseline is weak. On real data it closes "
            f"{min(share):.0%} to {max(share):.0%} of the gap between the baseline's AUSUC and "
            "100; on pseudo-unseen classes, with the diffusion, 5% to 7% "
            "([experiments.md](experiments.md)).",
            len(real) < 2 or bool(np.corrcoef(lacks, gains)[0, 1] > 0),
        ),
    ]
    problems = Problems("the results do not bear out, change it in make_results.py")
    for sentence, holds in told:
        if not holds:
            problems.add(sentence)
    problems.raise_as(InputError)
    return [sentence for sentence, _ in told]


def change(summary: Summary, row: str, other: str, metric: str) -> tuple[float, float, float]:
    """Lower end, mean and upper end of ``row`` minus ``other``."""
    made = paired(summary, row, other, metric)
    mean, half_width = made["mean"] or 0.0, made["half_width"]
    half_width = np.inf if half_width is None else half_width  # of a single seed
    return mean - half_width, mean, mean + half_width


def counted(cells: Cells, row: str, other: str, metric: str) -> str:
    """How many cells improve, how many significantly among so many, and which lose so."""
    made = {name: differences(s, row, other, metric) for name, s in cells if {row, other} <= {*s}}
    gains = {name: float(values.mean()) for name, values in made.items()}
    sure = dict(zip(made, holm(made.values()), strict=True))
    improved = sum(gain > 0 for gain in gains.values())
    significant = sum(sure[name] and gain > 0 for name, gain in gains.items())
    alone = sum(change(s, row, other, metric)[0] > 0 for name, s in cells if name in made)
    losses = [name for name, gain in gains.items() if sure[name] and gain < 0]
    lost = f"significant losses: {'; '.join(losses)}" if losses else "no significant loss"
    return (
        f"improves {improved} of {len(made)} settings, {significant} of them significantly "
        f"(uncorrected: {alone}); {lost}"
    )


def holm(groups: Iterable[npt.NDArray[np.float64]], level: float = 0.05) -> list[bool]:
    """Which of several groups of paired differences (seeds,) have a mean other than 0.

    Holm's step-down procedure on two-sided t tests: the chance of any false one is below ``level``.
    """
    p_values = [_p_value(values) for values in groups]
    significant = [False] * len(p_values)
    for tested, number in enumerate(np.argsort(p_values, kind="stable").tolist()):
        if p_values[number] > level / (len(p_values) - tested):
            break
        significant[number] = True
    return significant


def _p_value(values: npt.NDArray[np.float64]) -> float:
    if len(values) < 2:
        return 1.0
    if np.ptp(values) < 1e-12:  # no spread: sure, unless there is no difference
        return float(abs(values[0]) < 1e-12)
    return float(stats.ttest_1samp(values, 0.0).pvalue)


def listed(cells: Cells, row: str, other: str, metric: str) -> str:
    """The difference in every cell."""
    made = (f"{cell(paired(s, row, other, metric), signed=True)} ({name})" for name, s in cells)
    return ", ".join(made)


def data_of(content: dict[str, Any]) -> str:
    return Path(content["settings"]["data"]).name
