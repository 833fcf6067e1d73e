"""Paired comparisons of baselines with and without D³, ablations, tuning, and their reports."""

from d3_plugin.experiments.ablation import ablate
from d3_plugin.experiments.comparison import compare
from d3_plugin.experiments.tuning import tune

__all__ = ["ablate", "compare", "tune"]
