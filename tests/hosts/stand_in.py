"""The folder of .mat files that the public hosts read, from another such folder or from digits."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch

from d3_plugin.data import GZSLData, load


def write_folder(target: Path, source: Path | None, width: int | None = None) -> dict[str, int]:
    """``res101.mat``, ``att_splits.mat`` and others with all that the hosts index, needed or not.

    Args:
        target: a new folder.
        source: a folder in the field's format; None for scikit-learn's digits.
        width: repeat the features up to it; None leaves them as they are.

    Returns:
        Feature width D, attribute width A, and numbers of all, seen and unseen classes, C, S, U.
    """
    if source is None:
        features, splits = as_mat(load("digits-1"))
    else:
        features = scipy.io.loadmat(source / "res101.mat")
        splits = scipy.io.loadmat(source / "att_splits.mat")
    labels = features["labels"].reshape(-1)
    if width is not None:
        features["features"] = np.resize(features["features"], (width, len(labels)))
    features.setdefault("image_files", np.full((len(labels), 1), "", dtype=object))
    for name in ("train_loc", "val_loc"):  # read by every host, used only with --validation
        splits.setdefault(name, splits["trainval_loc"])
    splits.setdefault("original_att", splits["att"])
    splits.setdefault("allclasses_names", np.full((splits["att"].shape[1], 1), "", dtype=object))
    (target / "split_1").mkdir(parents=True)  # gzsl-od reads split_1/../att_splits.mat
    rows = {"features": features["features"].T}  # ZeroDiff's features and its second condition
    files = {"res101": features, "att_splits": splits, "ce_ce": rows, "con_paco": rows}
    files["data"], files["label"] = as_gsmflow(features, splits)
    files["sent_splits"] = splits  # RE-GZSL's attributes of CUB
    files |= as_cizsl(features, splits, target)
    sounds = {  # ZeroDiffusion's
        "labels": labels - 1,
        "features": [torch.tensor(row[None]) for row in features["features"].T],
        "auxiliary": splits["att"].T[labels - 1],
    }
    (target / "sounds.pkl").write_bytes(pickle.dumps(sounds))
    for name, content in files.items():
        kept = {k: v for k, v in content.items() if not k.startswith("__")}
        scipy.io.savemat(target / f"{name}.mat", kept)
    seen = np.unique(labels[splits["trainval_loc"].reshape(-1) - 1])
    attributes, classes = splits["att"].shape
    counts = {"C": classes, "S": len(seen), "U": classes - len(seen)}
    return {"D": len(features["features"]), "A": attributes, **counts}


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


def as_gsmflow(
    features: dict[str, Any], splits: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """``data.mat`` and ``label.mat`` of GSMFlow: classes numbered anew, seen ones first."""
    ids = features["labels"].reshape(-1)
    rows = {p: splits[f"{p}_loc"].reshape(-1) - 1 for p in ("trainval", "test_seen", "test_unseen")}
    seen = np.unique(ids[rows["trainval"]])
    order = np.concatenate([seen, np.setdiff1d(np.arange(1, splits["att"].shape[1] + 1), seen)])
    attributes, new = splits["att"].T[order - 1], np.argsort(order) + 1
    data = {"attribute": attributes, "att_train": attributes[: len(seen)]}
    data |= {"seen_pro": attributes[: len(seen)], "unseen_pro": attributes[len(seen) :]}
    data |= {f"{p.removesuffix('val')}_fea": features["features"].T[at] for p, at in rows.items()}
    numbers = {p: new[ids[at] - 1] for p, at in rows.items()}
    labels = {"train_idx": numbers["trainval"], "train_label_new": numbers["trainval"]}
    labels |= {f"{p}_idex": numbers[p] for p in ("test_seen", "test_unseen")}
    return data, labels


def as_cizsl(
    features: dict[str, Any], splits: dict[str, Any], target: Path
) -> dict[str, dict[str, Any]]:
    """The files of CIZSL: class texts, and rows and labels of training and of unseen classes."""
    ids, texts = features["labels"].reshape(-1), "CUB_Porter_7551D_TFIDF_new"
    files = {texts: {"PredicateMatrix": splits["att"].T}}
    cids = {}
    for part, name in (("trainval", "train"), ("test_unseen", "test")):
        rows = splits[f"{part}_loc"].reshape(-1) - 1
        cids[f"{name}_cid"], labels = np.unique(ids[rows], return_inverse=True)
        files[f"pfc_feat_{name}"] = {"pfc_feat": features["features"].T[rows]}
        (target / f"labels_{name}.pkl").write_bytes(pickle.dumps(labels))
    return {**files, "train_test_split_easy": cids}
