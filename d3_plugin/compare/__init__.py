"""Paired comparisons of baselines with and without D³, and their report."""

from d3_plugin.compare.command import compare

__all__ = ["compare"]
