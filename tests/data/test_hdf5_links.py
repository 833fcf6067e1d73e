"""HDF5 files that would read other files, whose changes no digest of the data notices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from d3_plugin.data import load_mat_folder
from tests.data.mat_folders import RES, make, problems_of


def external_link(handle: h5py.File, features: np.ndarray, elsewhere: Path) -> None:
    with h5py.File(elsewhere, "w") as other:
        other["features"] = features
    handle["features"] = h5py.ExternalLink(elsewhere, "features")


def soft_link_to_an_external_one(handle: h5py.File, features: np.ndarray, elsewhere: Path) -> None:
    with h5py.File(elsewhere, "w") as other:
        other["group/features"] = features
    handle["link"] = h5py.ExternalLink(elsewhere, "group")
    handle["features"] = h5py.SoftLink("/link/features")


def external_storage(handle: h5py.File, features: np.ndarray, elsewhere: Path) -> None:
    elsewhere.write_bytes(features.tobytes())
    external = [(str(elsewhere), 0, features.nbytes)]
    handle.create_dataset("features", features.shape, features.dtype, external=external)


def virtual(handle: h5py.File, features: np.ndarray, elsewhere: Path) -> None:
    with h5py.File(elsewhere, "w") as other:
        other["features"] = features
    layout = h5py.VirtualLayout(features.shape, features.dtype)
    layout[:] = h5py.VirtualSource(elsewhere, "features", features.shape)
    handle.create_virtual_dataset("features", layout)


@pytest.mark.parametrize(
    "write", [external_link, soft_link_to_an_external_one, external_storage, virtual]
)
def test_hdf5_that_leaves_its_file(tmp_path: Path, write: Callable[..., None]) -> None:
    folder = make(tmp_path, version="v7.3")
    with h5py.File(folder / RES, "r+") as handle:
        features = handle["features"][()]
        del handle["features"]
        write(handle, features, tmp_path / "elsewhere")
    (only,) = problems_of(folder)
    assert only.startswith("res101.mat cannot be read")
    assert "another file; copy it into this one" in only


def test_links_inside_a_file_are_fine(tmp_path: Path) -> None:
    folder = make(tmp_path, version="v7.3")
    with h5py.File(folder / RES, "r+") as handle:
        handle.move("features", "values")
        handle["features"] = h5py.SoftLink("/values")
    load_mat_folder(folder)
