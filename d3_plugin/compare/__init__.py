"""Paired comparisons of baselines with and without D³, ablations, tuning, and their reports."""

from d3_plugin.compare.ablation import ablate
from d3_plugin.compare.command import compare
from d3_plugin.compare.tuning import tune

__all__ = ["ablate", "compare", "tune"]
