"""Paired comparisons of baselines with and without D³, ablations, tuning, and their reports."""

from d3_plugin.experiments.comparison import ablate, compare
from d3_plugin.experiments.comparison_result import Comparison
from d3_plugin.experiments.table_options import AblateOptions, CompareOptions
from d3_plugin.experiments.tuning import Tuned, TuneOptions, tune

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
