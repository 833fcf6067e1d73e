"""A GZSL problem in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d3_plugin.checks import describe, some
from d3_plugin.data.array_files import CLASS_NAMES, SETS, mat_bytes
from d3_plugin.data.assemble import Rows, from_rows, warn_of_attributes
from d3_plugin.data.consistency import check_problem
from d3_plugin.data.parts import (
    PARTS,
    DataProblems,
    as_ids,
    as_parts,
    as_row_numbers,
    as_rows,
    check_row_order,
    names_of_index,
)
from d3_plugin.errors import DataError
from d3_plugin.files import remove_stale, write_folder


@dataclass(frozen=True, eq=False, repr=False)
class GZSLData:
    """Features, labels, attributes and the seen/unseen split of one GZSL problem.

    Labels are class ids ``0..C-1``, and every class is either seen or unseen. Tensors and NumPy
    arrays of other types are converted here: features and attributes of any real type to float32,
    ids of any integer type (also integral floats) to int64.

    Attributes:
        name: shown in tables.
        train_features: (N, D) float32, rows of seen classes only.
        train_labels: (N,) int64.
        test_seen_features, test_seen_labels: (N_s, D) and (N_s,), held-out rows of seen classes.
        test_unseen_features, test_unseen_labels: (N_u, D) and (N_u,), rows of unseen classes.
        attributes: (C, A) float32, one semantic vector per class; row ``c`` belongs to class ``c``.
        seen_classes, unseen_classes: (S,) and (U,) int64, sorted; together ``0..C-1``.
        class_names: C names.
        scaling: (2, D) float32, factors and offsets by which :meth:`scaled` made these features of
            those in the file; None for unscaled ones. A final classifier takes it along.

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
    scaling: Tensor | None = None

    def __post_init__(self) -> None:
        problems = DataProblems(f"data set {self.name!r}")
        names = self.class_names
        if not isinstance(names, tuple) or not all(isinstance(each, str) for each in names):
            problems.add(f"class_names must be a tuple of str, got {type(names).__name__}")
            names = ()
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.type == "Tensor"}
        parts = as_parts(given, problems, names)
        check_problem(parts, problems)
        problems.raise_as(DataError)
        for name, tensor in parts.items():
            object.__setattr__(self, name, tensor)
        seen, unseen = self.seen_classes.tolist(), self.unseen_classes.tolist()
        in_order = sorted(seen) + sorted(unseen) == seen + unseen
        problems.check(
            in_order and sorted(seen + unseen) == list(range(self.num_classes)),
            f"seen and unseen classes must be sorted and together 0..{self.num_classes - 1}",
        )
        counts = f"{len(names)} class names for {self.num_classes} classes"
        problems.check(len(names) == self.num_classes, counts)
        problems.raise_as(DataError)

    @classmethod
    def from_arrays(
        cls,
        features: Any,
        labels: Any,
        attributes: Any,
        *,
        train: Any,
        test_seen: Any,
        test_unseen: Any = None,
        unseen_classes: Any = None,
        class_names: Iterable[str] | None = None,
        name: str = "arrays",
    ) -> GZSLData:
        """A problem from all rows and a split of them into training and test rows.

        Takes NumPy arrays, tensors, lists and pandas objects, nullable and Arrow-backed ones too.
        Leaves out classes without rows in the split and seen classes without test rows; the others
        keep their order and get the ids ``0..C-1``.

        Args:
            features: (N, D) numbers.
            labels: (N,) class ids, rows of ``attributes``.
            attributes: (C, A) numbers, a row for each class up to the highest label, or for each
                name. A pandas index of ids or names must be in the order of the classes; names are
                the ``class_names`` if none are given.
            train, test_seen, test_unseen: row numbers from 0, or masks (N,) of 0 and 1; disjoint.
            unseen_classes: instead of ``test_unseen``: class ids whose rows are all test rows.
            class_names: C names.
            name: shown in tables.

        Raises:
            DataError: lists every problem found.

        Warns:
            D3Warning: seen classes are left out, or attributes cannot distinguish classes.
        """
        problems = DataProblems(f"data set {name!r}")
        ids = as_ids("labels", labels, problems)
        matrix = as_rows("features", features, problems, "(N, D)")
        known = {len(rows) for rows in (ids, matrix) if rows is not None}
        given = {"train": train, "test_seen": test_seen}
        if (test_unseen is None) == (unseen_classes is None):
            problems.add("give either test_unseen or unseen_classes")
        elif test_unseen is not None:
            given["test_unseen"] = test_unseen
        elif ids is not None:
            classes = as_ids("unseen_classes", unseen_classes, problems)
            given["test_unseen"] = () if classes is None else torch.isin(ids, classes)
            if classes is not None and len(absent := classes[~torch.isin(classes, ids)]):
                present = some(ids.unique(), "classes")
                problems.add(
                    f"unseen_classes: {some(absent, 'ids')} without rows; labels: {present}"
                )
        sets = {}
        for part, value in given.items():
            if (rows := as_row_numbers(part, value, known, problems)) is not None:
                sets[part] = rows if ids is None else rows.to(ids.device)
        check_row_order({"features": features, "labels": labels, **given}, problems)
        try:
            names = [] if class_names is None else [str(each) for each in class_names]
        except TypeError:
            problems.add(f"class_names is {describe(class_names)}; expected C names")
            names = []
        in_index = names_of_index("attributes", attributes, names, problems)
        vectors = as_rows("attributes", attributes, problems, "(C, A)")
        made = from_rows(Rows(matrix, ids, vectors, sets, names or in_index), problems)
        warn_of_attributes(name, made)
        return cls(name=name, class_names=made.class_names, **made.parts)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the field's two files, for :func:`~d3_plugin.data.load_mat_folder` and MATLAB.

        Args:
            folder: does not exist yet, or is empty. Both files are written, or nothing.

        Raises:
            StorageError: there is something in it already, or it cannot be written.
        """
        features = torch.cat([getattr(self, f"{part}_features") for part in PARTS])
        labels = [getattr(self, f"{part}_labels") for part in PARTS]
        rows = {"features": features.T.cpu().numpy(), "labels": torch.cat(labels).cpu().numpy() + 1}
        names = np.array(self.class_names, dtype=object)
        splits: dict[str, Any] = {"att": self.attributes.T.cpu().numpy(), CLASS_NAMES: names}
        numbers = torch.arange(1, len(features) + 1).split([len(each) for each in labels])
        for part, own in zip(PARTS, numbers, strict=True):
            splits[SETS[part]] = own.numpy()
        folder = Path(folder)
        remove_stale(folder.parent)
        write_folder(folder, {"res101.mat": mat_bytes(rows), "att_splits.mat": mat_bytes(splits)})

    def __repr__(self) -> str:
        rows = " + ".join(str(len(getattr(self, f"{part}_labels"))) for part in PARTS)
        return (
            f"GZSLData({self.name!r}, {len(self.seen_classes)} seen and "
            f"{len(self.unseen_classes)} unseen classes, features {rows} x {self.feature_dim}, "
            f"attributes {self.attributes.shape[1]})"
        )

    @property
    def num_classes(self) -> int:
        return len(self.attributes)

    @property
    def feature_dim(self) -> int:
        return self.train_features.shape[1]

    def to(self, device: torch.device | str) -> GZSLData:
        """The same data with every tensor on ``device``."""
        parts: dict[str, Any] = {k: v for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **{name: part.to(device) for name, part in parts.items()})

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
        factor, offset = (
            torch.from_numpy(each).to(self.train_features) for each in (scaler.scale_, scaler.min_)
        )
        if self.scaling is not None:
            factor, offset = factor * self.scaling[0], factor * self.scaling[1] + offset
        return replace(self, **scaled, scaling=torch.stack([factor, offset]))
