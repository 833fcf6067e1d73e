"""Checks of the parts of a GZSL problem in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from d3_plugin.checks import is_integer
from d3_plugin.errors import Problems

PARTS = ("train", "test_seen", "test_unseen")


def check_types(parts: Mapping[str, Any], problems: Problems) -> None:
    """Every part is a dense tensor of the right kind and number of dimensions, on one device."""
    devices = {}
    for name, part in parts.items():
        if not isinstance(part, Tensor) or part.layout != torch.strided or part.is_meta:
            what = f"a tensor on {part.device}" if isinstance(part, Tensor) else type(part).__name__
            problems.add(f"{name} must be a dense tensor with values, got {what}")
            continue
        devices[name] = str(part.device)
        if name.endswith(("labels", "classes")):
            problems.check(
                part.ndim == 1 and is_integer(part),
                f"{name} must be integer class ids (N,), got {part.dtype} {tuple(part.shape)}",
            )
        else:
            floating = part.dtype in (torch.float32, torch.float64)
            problems.check(
                part.ndim == 2 and part.shape[-1] > 0 and floating,
                f"{name} must be float32 (N, K) with K > 0, got {part.dtype} {tuple(part.shape)}",
            )
    problems.check(
        len(set(devices.values())) < 2, f"all parts must be on one device, got {devices}"
    )


def check_contents(parts: Mapping[str, Tensor], problems: Problems) -> None:
    """The parts belong together; each has passed :func:`check_types`."""
    width = parts["train_features"].shape[1]
    seen, unseen = set(parts["seen_classes"].tolist()), set(parts["unseen_classes"].tolist())
    for part, classes in zip(PARTS, (seen, seen, unseen), strict=True):
        features, labels = parts[f"{part}_features"], parts[f"{part}_labels"]
        if len(labels) != len(features):
            problems.add(
                f"{part}: features {tuple(features.shape)} and labels {tuple(labels.shape)} "
                "must be (N, D) and (N,)"
            )
            continue
        problems.check(
            features.shape[1] == width,
            f"{part}: features are {features.shape[1]} wide, train features {width}",
        )
        problems.check(bool(torch.isfinite(features).all()), f"{part}: features contain NaN or Inf")
        differing = set(labels.tolist()) ^ classes
        problems.check(
            not differing,
            f"{part}: the classes of its rows are not the "
            f"{'unseen' if part == 'test_unseen' else 'seen'} classes "
            f"(differing ids: {sorted(differing)[:10]})",
        )
    num_classes = len(parts["attributes"])
    given = [*parts["seen_classes"].tolist(), *parts["unseen_classes"].tolist()]
    problems.check(
        sorted(seen) + sorted(unseen) == given and sorted(given) == list(range(num_classes)),
        f"seen and unseen classes must be sorted, disjoint and together 0..{num_classes - 1}",
    )
    problems.check(bool(seen and unseen), "there must be seen classes and unseen ones")
    problems.check(bool(torch.isfinite(parts["attributes"]).all()), "attributes contain NaN or Inf")
