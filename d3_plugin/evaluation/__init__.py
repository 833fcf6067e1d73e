"""Metrics, the final classifier, and the protocol for hosts with and without D³."""

from d3_plugin.evaluation.classifier import Classifier
from d3_plugin.evaluation.metrics import (
    GZSLMetrics,
    gzsl_metrics,
    harmonic_mean,
    ood_auroc,
    per_class_accuracy,
    seen_unseen_curve,
)

__all__ = [
    "Classifier",
    "GZSLMetrics",
    "gzsl_metrics",
    "harmonic_mean",
    "ood_auroc",
    "per_class_accuracy",
    "seen_unseen_curve",
]
