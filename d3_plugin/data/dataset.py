"""The in-memory GZSL problem that everything else works on."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from d3_plugin.data._checks import PARTS, as_parts, check_problem
from d3_plugin.errors import DataError, Problems


@dataclass(frozen=True, eq=False)
class GZSLData:
    """Features, labels, attributes and the seen/unseen split of one GZSL problem.

    Labels are class ids ``0..C-1``, and every class is either seen or unseen. Tensors and NumPy
    arrays of other types are converted once, here: features and attributes of any real type to
    float32, integer ids of any type (also floats without a fraction) to int64.

    Attributes:
        name: shown in tables.
        train_features: (N, D) float32, rows of seen classes only.
        train_labels: (N,) int64.
        test_seen_features, test_seen_labels: (N_s, D) and (N_s,), held-out rows of seen classes.
        test_unseen_features, test_unseen_labels: (N_u, D) and (N_u,), rows of unseen classes.
        attributes: (C, A) float32, one semantic vector per class; row ``c`` belongs to class ``c``.
        seen_classes, unseen_classes: (S,) and (U,) int64, sorted; together ``0..C-1``.
        class_names: C names.

    Raises:
        DataError: the parts contradict each other; lists every problem found.
    """

    name: str
    train_features: Tensor
    train_labels: Tensor
    test_seen_features: Tensor
    test_seen_labels: Tensor
    test_unseen_features: Tensor
    test_unseen_labels: Tensor
    attributes: Tensor
    seen_classes: Tensor
    unseen_classes: Tensor
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        problems = Problems(f"data set {self.name!r}")
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.type == "Tensor"}
        parts = as_parts(given, problems)
        check_problem(parts, problems)
        names = self.class_names
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            problems.add(f"class_names must be a tuple of str, got {type(names).__name__}")
        problems.raise_as(DataError)
        for name, part in parts.items():
            object.__setattr__(self, name, part)
        seen, unseen = self.seen_classes.tolist(), self.unseen_classes.tolist()
        in_order = sorted(seen) + sorted(unseen) == seen + unseen
        problems.check(
            in_order and sorted(seen + unseen) == list(range(self.num_classes)),
            f"seen and unseen classes must be sorted and together 0..{self.num_classes - 1}",
        )
        counts = f"{len(names)} class names for {self.num_classes} classes"
        problems.check(len(names) == self.num_classes, counts)
        problems.raise_as(DataError)

    @property
    def num_classes(self) -> int:
        return len(self.attributes)

    @property
    def feature_dim(self) -> int:
        return self.train_features.shape[1]

    def to(self, device: torch.device | str) -> GZSLData:
        """The same data with every tensor on ``device``."""
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {k: v.to(device) for k, v in parts.items() if isinstance(v, Tensor)}
        return replace(self, **moved)

    def scaled(self) -> GZSLData:
        """Features mapped to [0, 1] per dimension, fitted on the training rows only.

        The practice of Xian et al. (CVPR 2018); test rows may leave [0, 1].
        """
        from sklearn.preprocessing import MinMaxScaler

        scaler = MinMaxScaler().fit(self.train_features.cpu().numpy())
        scaled: dict[str, Any] = {}
        for name in (f"{part}_features" for part in PARTS):
            rows = getattr(self, name)
            scaled[name] = torch.from_numpy(scaler.transform(rows.cpu().numpy())).to(rows)
        return replace(self, **scaled)
