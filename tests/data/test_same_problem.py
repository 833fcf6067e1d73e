"""One problem from every source is one and the same GZSLData."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from d3_plugin.data import GZSLData, load_mat_folder
from d3_plugin.data.host_data import as_gzsl_data
from tests.data.mat_folders import ATT, RES, Variables, good, write_v5, write_v73
from tests.data.test_host_data import dictionaries, mapped_loader
from tests.data.test_sources import write_h5, write_npz

PARTS = {"train": "trainval_loc", "test_seen": "test_seen_loc", "test_unseen": "test_unseen_loc"}


def folder(path: Path, suffix: str, write: Callable[[Path, Variables], None]) -> Path:
    for stem, variables in zip(("res101", "att_splits"), good(), strict=True):
        write((path / stem).with_suffix(suffix), variables)
    return path


def other_attributes(path: Path) -> Path:
    """The right attributes in a file of their own; those beside the splits are wrong."""
    res, att = good()
    write_v5(path / "mine.mat", {"att": att["att"]})
    write_v5(path / RES, res)
    write_v5(path / ATT, att | {"att": att["att"] ** 2 + 1})
    return path


def arrays(*, masks: bool) -> dict[str, Any]:
    res, att = good()
    sets = {part: att[key].ravel().astype(int) - 1 for part, key in PARTS.items()}
    if masks:  # which have no order
        for part, rows in sets.items():
            sets[part] = np.isin(np.arange(30), rows)
    labels, names = res["labels"].ravel() - 1, att["allclasses_names"].ravel()
    given = {"features": res["features"].T, "labels": labels, "attributes": att["att"].T}
    return {**given, **sets, "class_names": names, "name": "birds"}


def loader(data: GZSLData) -> SimpleNamespace:
    """f-CLSWGAN's DATA_LOADER of these files: original ids, and attribute rows of all classes."""
    ids = torch.tensor([0, 1, 3, 4])  # class 2 is in no split
    made = SimpleNamespace(
        attribute=torch.from_numpy(good()[1]["att"].T).float(),
        seenclasses=ids[data.seen_classes],
        unseenclasses=ids[data.unseen_classes],
    )
    for part in PARTS:
        setattr(made, f"{part}_feature", getattr(data, f"{part}_features"))
        setattr(made, f"{part}_label", ids[getattr(data, f"{part}_labels")])
    return made


def seen_first(data: GZSLData) -> SimpleNamespace:
    """GSMFlow's of .mat folders: rows of seen classes, then of unseen ones, whatever their ids."""
    made = mapped_loader(data, tuple(PARTS))
    made.train_att = data.attributes[data.seen_classes].numpy()
    made.test_att = data.attributes[data.unseen_classes].numpy()
    made.attribute = np.concatenate([made.train_att, made.test_att])
    return made


def saved(path: Path, data: GZSLData) -> GZSLData:
    data.save(path)
    return load_mat_folder(path)


SOURCES: dict[str, Callable[[Path, GZSLData], GZSLData]] = {
    "v7.3": lambda path, _: load_mat_folder(folder(path, ".mat", write_v73)),
    ".npz": lambda path, _: load_mat_folder(folder(path, ".npz", write_npz)),
    ".h5": lambda path, _: load_mat_folder(folder(path, ".h5", write_h5)),
    "another attribute file": lambda path, _: load_mat_folder(
        other_attributes(path), attributes="mine.mat"
    ),
    "saved": saved,
    "arrays": lambda path, _: GZSLData.from_arrays(**arrays(masks=False)),
    "masks": lambda path, _: GZSLData.from_arrays(**arrays(masks=True)),
    "loader": lambda path, data: as_gzsl_data(loader(data)),
    "mapped loader": lambda path, data: as_gzsl_data(mapped_loader(data, tuple(PARTS))),
    "dictionaries": lambda path, data: as_gzsl_data(dictionaries(data)),
    "seen first": lambda path, data: as_gzsl_data(seen_first(data)),
}


@pytest.mark.filterwarnings("ignore:attach.*5 attribute rows, but only 4")
@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same(source: str, tmp_path: Path) -> None:
    for name in ("birds", "other"):
        (tmp_path / name).mkdir()
    data = load_mat_folder(folder(tmp_path / "birds", ".mat", write_v5))
    assert data.class_names == ("ape", "bat", "dog", "eel")
    (tmp_path / "other" / "birds").mkdir()
    made = SOURCES[source](tmp_path / "other" / "birds", data)
    for field in fields(GZSLData):
        one, other = getattr(data, field.name), getattr(made, field.name)
        if field.type != "Tensor":
            of_loader = made.name == "SimpleNamespace"  # has no names
            assert of_loader or one == other
            continue
        assert one.dtype == other.dtype
        if source == "masks" and field.name.startswith("t"):
            one, other = one.sort(dim=0).values, other.sort(dim=0).values
        assert torch.equal(one, other), field.name
