"""The sentences at the head of the result page, checked against the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from d3_plugin import InputError
from d3_plugin.errors import Problems
from d3_plugin.report.statistics import paired
from d3_plugin.report.tables import cell

Summary = dict[str, Any]
Contents = list[tuple[str, dict[str, Any]]]
"""Names and contents of ``results.json`` or ``ablation.json``."""
Cells = list[tuple[str, Summary]]


def claims(comparisons: Contents, ablations: Contents) -> list[str]:
    """The sentences at the head of the page, with their figures.

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
    distilled = [change(s, "d3", "cls", "ausuc") for _, s in parts]
    same = [
        summary[row]["metrics"]["ausuc"]["per_seed"]
        for _, summary in cells
        for row in ("baseline", "d3_host")
    ]
    lacks = [1 - s["baseline"]["metrics"]["ausuc"]["mean"] for s in real]
    gains = [change(s, "d3_chosen", "baseline", "ausuc")[1] for s in real]
    share = [gain / lack for gain, lack in zip(gains, lacks, strict=True)]
    told = [
        (
            "**AUSUC**: +D³, its weight and offset chosen on validation classes, "
            f"{counted(cells, 'd3_chosen', 'baseline', 'ausuc')}.",
            True,
        ),
        (
            "**H**: against calibrated stacking, the baseline's cheapest rival, it "
            f"{counted(cells, 'd3_chosen', 'baseline_calibrated', 'harmonic')}.",
            True,
        ),
        (
            "**Ensembling**: against an ensemble of the baseline's own classifiers, one per draw, "
            f"+D³ {counted(cells, 'd3_chosen', 'baseline_summed', 'ausuc')} in AUSUC.",
            True,
        ),
        (
            "**Not the losses**: the generator is the baseline's, since no weight of D³'s losses "
            "that was tried made a better one ([experiments.md](experiments.md)). On real data the "
            "released formulas, which train it, gain no AUSUC. In the student, all losses together "
            f"change AUSUC by {listed(parts, 'd3', 'cls', 'ausuc')} over `L_cls` alone.",
            same[::2] == same[1::2]
            and all(low <= 0 for low, _, _ in released)
            and (not distilled or any(low <= 0 for low, _, _ in distilled)),
        ),
        (
            "**Where it helps**: where much is missing. On real data it gains "
            f"{min(share):.0%} to {max(share):.0%} of what the baseline lacks to an AUSUC of 100 "
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
    """How many cells gain, how many significantly, and which lose significantly."""
    made = {name: change(s, row, other, metric) for name, s in cells if row in s and other in s}
    gains = sum(mean > 0 for _, mean, _ in made.values())
    significant = sum(low > 0 for low, _, _ in made.values())
    loses = [name for name, (_, _, high) in made.items() if high < 0]
    lost = f"{len(loses)}: {'; '.join(loses)}" if loses else "none"
    return (
        f"gains in {gains} of {len(made)} settings, in {significant} significantly, and loses "
        f"significantly in {lost}"
    )


def listed(cells: Cells, row: str, other: str, metric: str) -> str:
    """The difference in every cell."""
    made = (f"{cell(paired(s, row, other, metric), signed=True)} ({name})" for name, s in cells)
    return ", ".join(made)


def data_of(content: dict[str, Any]) -> str:
    return Path(content["settings"]["data"]).name
