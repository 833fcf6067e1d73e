"""Paired comparisons of baselines with and without D³, ablations, tuning, and their reports."""

from d3_plugin.experiments.comparison import (
    AblateOptions,
    CompareOptions,
    ablate,
    compare,
)
from d3_plugin.experiments.tuning import Tuned, TuneOptions, tune
from d3_plugin.report.results import Comparison

__all__ = [
    "AblateOptions",
    "CompareOptions",
    "Comparison",
    "TuneOptions",
    "Tuned",
    "ablate",
    "compare",
    "tune",
]
