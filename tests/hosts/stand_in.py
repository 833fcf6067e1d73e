"""The folder of .mat files that the public hosts read, from another such folder or from digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch

from d3_plugin.data import GZSLData, load


def write_folder(target: Path, source: Path | None) -> dict[str, int]:
    """``res101.mat`` and ``att_splits.mat`` with all that the hosts index, needed or not.

    Args:
        target: a new folder.
        source: a folder in the field's format; None for scikit-learn's digits.

    Returns:
        Feature width D, attribute width A, number of classes C and of seen classes S.
    """
    if source is None:
        features, splits = as_mat(load("digits-1"))
    else:
        features = scipy.io.loadmat(source / "res101.mat")
        splits = scipy.io.loadmat(source / "att_splits.mat")
    labels = features["labels"].reshape(-1)
    features.setdefault("image_files", np.full((len(labels), 1), "", dtype=object))
    for name in ("train_loc", "val_loc"):  # read by every host, used only with --validation
        splits.setdefault(name, splits["trainval_loc"])
    (target / "split_1").mkdir(parents=True)  # gzsl-od reads split_1/../att_splits.mat
    for name, content in (("res101", features), ("att_splits", splits)):
        kept = {k: v for k, v in content.items() if not k.startswith("__")}
        scipy.io.savemat(target / f"{name}.mat", kept)
    seen = np.unique(labels[splits["trainval_loc"].reshape(-1) - 1])
    width, classes = splits["att"].shape
    return {"D": len(features["features"]), "A": width, "C": classes, "S": len(seen)}


def as_mat(data: GZSLData) -> tuple[dict[str, Any], dict[str, Any]]:
    """What ``res101.mat`` and ``att_splits.mat`` would hold of this problem."""
    parts = ("train", "test_seen", "test_unseen")
    rows = torch.cat([getattr(data, f"{part}_features") for part in parts]).numpy()
    labels = torch.cat([getattr(data, f"{part}_labels") for part in parts]).numpy()
    ends = np.cumsum([0, *(len(getattr(data, f"{part}_labels")) for part in parts)])
    splits: dict[str, Any] = {"att": data.attributes.numpy().T.astype(np.float64)}
    for name, start, end in zip(
        ("trainval", "test_seen", "test_unseen"), ends[:-1], ends[1:], strict=True
    ):
        splits[f"{name}_loc"] = np.arange(start, end)[:, None] + 1
    return {"features": rows.T.astype(np.float64), "labels": labels[:, None] + 1}, splits
