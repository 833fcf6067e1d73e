"""Folders of .mat files with malformed variables, and with broken bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from d3_plugin.data import load_mat_folder
from tests.data.mat_folders import ATT, RES, WRITERS, good, make
from tests.fuzz.fuzzing import EXAMPLES, examples, refused

NUMBERS = [0.0, 1.0, 2.0, 31.0, -1.0, 1.5, np.nan, np.inf, -np.inf, 1e300, 2.0**60, -(2.0**63)]
DTYPES = ["f4", "f8", "i1", "i8", "u1", "u2", "u8", "c16", "bool", "U3"]


def changed(draw: st.DrawFn, value: np.ndarray) -> Any:
    """Something in the place of a variable."""
    how = draw(st.integers(0, 8))
    if how == 0:
        shape = draw(st.lists(st.integers(0, 6), min_size=2, max_size=3))
        return np.full(shape, draw(st.sampled_from(NUMBERS)))
    if how == 1:
        dtype = draw(st.sampled_from(DTYPES))
        return value.astype(dtype) if value.dtype != object else np.zeros((2, 2), dtype=dtype)
    if how == 2:
        return np.array([[draw(st.sampled_from([1, "a", np.ones(3), []]))]], dtype=object)
    if how == 3:
        return value.T
    if how == 4 and value.dtype != object:
        return scipy.sparse.csc_matrix(np.atleast_2d(value.astype(float)))
    if how == 5:
        return {"a": 1.0, "b": "text"}
    if how == 6:
        return value[: draw(st.integers(0, len(value)))]
    if value.dtype.kind in "fiu":
        value = value.astype(float)
        for _ in range(draw(st.integers(1, 3))):
            value.flat[draw(st.integers(0, value.size - 1))] = draw(st.sampled_from(NUMBERS))
    return value


@EXAMPLES
def test_variables(number: int) -> None:
    count = 0

    @examples(number)
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        nonlocal count

        def change(*parts: dict[str, Any]) -> None:
            keys = [key for part in parts for key in part]
            for key in data.draw(
                st.lists(st.sampled_from(keys), min_size=1, max_size=3, unique=True)
            ):
                part = next(part for part in parts if key in part or part is parts[-1])
                if data.draw(st.integers(0, 9)) == 0:
                    part.pop(key, None)
                elif key in part and isinstance(part[key], np.ndarray):
                    part[key] = changed(data.draw, part[key])

        with tempfile.TemporaryDirectory() as folder:
            count += refused(lambda: load_mat_folder(make(Path(folder), change)))

    attempt()
    assert count > 0.6 * number


@EXAMPLES
def test_bytes(number: int) -> None:
    """Truncated, overwritten, swapped, or of another kind; both versions of the format."""
    count = 0
    with tempfile.TemporaryDirectory() as root:
        folders = {version: Path(root) / version for version in WRITERS}
        for version, folder in folders.items():
            folder.mkdir()
            for name, variables in zip((RES, ATT), good(), strict=True):
                WRITERS[version](folder / name, variables)
        contents = {
            (version, name): (folder / name).read_bytes()
            for version, folder in folders.items()
            for name in (RES, ATT)
        }

        @examples(number)
        @given(st.data())
        def attempt(data: st.DataObject) -> None:
            nonlocal count
            version, name = data.draw(st.sampled_from(sorted(contents)))
            content = bytearray(contents[version, name])
            how = data.draw(st.integers(0, 3))
            if how == 0:
                content = content[: data.draw(st.integers(0, len(content) - 1))]
            elif how == 1:
                content = bytearray(data.draw(st.binary(max_size=300)))
            else:
                for _ in range(data.draw(st.integers(1, 20))):
                    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
                        st.integers(0, 255)
                    )
            file = folders[version] / name
            file.write_bytes(content)
            count += refused(lambda: load_mat_folder(folders[version]))
            file.write_bytes(contents[version, name])

        attempt()
    assert count > 0.5 * number
