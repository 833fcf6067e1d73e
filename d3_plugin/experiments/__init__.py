"""Paired comparisons of baselines with and without D³, ablations, tuning, and their reports."""

from d3_plugin.experiments.comparison import ablate, compare
from d3_plugin.experiments.tuning import tune

__all__ = ["ablate", "compare", "tune"]
