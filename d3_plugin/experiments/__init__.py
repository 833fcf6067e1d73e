"""Paired comparisons of baselines with and without D³, ablations, tuning, and their reports.

From a command to stored runs, in the order in which it is read:

- ``options``, with ``settings_file`` and ``families``: what all commands take, checked when made.
- ``comparison``, ``tuning``, ``bench``: the commands, each with the options of its own; ``flags``
  makes a command line of them.
- ``plan``: which runs there are, and which share a training.
- ``run_identity``, with ``code`` and ``source_digests``: what makes two runs the same.
- ``store``, with ``run_file`` and ``checkpoint``: finished and unfinished runs on disk.
- ``parallel``, with ``machines``: makes what is missing, here, in processes or on a cluster.
- ``run``: one training, or one for each run if they may not share it, which ``unchanged_training``,
  with ``host_state``, finds out.
- ``training``, with ``training_function`` and ``recording``: a host, its D³, and their scores.
"""

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
