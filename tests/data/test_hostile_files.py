"""Files that would read other files, or fill the memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from d3_plugin.data import load_mat_folder
from tests.data.mat_folders import ATT, RES, WRITERS, good, make, problems_of


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


def bomb_v5(folder: Path, key: str) -> None:
    parts = dict(zip((RES, ATT), good(), strict=True))
    name = RES if key in parts[RES] else ATT
    parts[name][key] = np.zeros((1, 100 << 20), dtype=np.uint8)
    scipy.io.savemat(folder / name, parts[name], do_compression=True)


def bomb_v73(folder: Path, key: str) -> None:
    parts = dict(zip((RES, ATT), good(), strict=True))
    name = RES if key in parts[RES] else ATT
    del parts[name][key]
    WRITERS["v7.3"](folder / name, parts[name])
    with h5py.File(folder / name, "r+") as handle:
        handle.create_dataset(key, (1 << 30, 1), "f8", chunks=(1 << 16, 1), compression="gzip")


def bomb_npz(folder: Path, key: str) -> None:
    for old, variables in zip((RES, ATT), good(), strict=True):
        (folder / old).unlink()
        arrays: dict[str, Any] = {k: v for k, v in variables.items() if v.dtype != object}
        if key in arrays:
            arrays[key] = np.zeros((1, 100 << 20), dtype=np.uint8)
        np.savez_compressed(folder / old.replace(".mat", ".npz"), **arrays)


@pytest.mark.parametrize("key", ["features", "trainval_loc"])
@pytest.mark.parametrize("write", [bomb_v5, bomb_v73, bomb_npz])
def test_zip_bombs(tmp_path: Path, write: Callable[[Path, str], None], key: str) -> None:
    folder = make(tmp_path)
    write(folder, key)
    tracemalloc.start()
    found = problems_of(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert any("bytes declare" in problem for problem in found)
    assert peak < 30 << 20
