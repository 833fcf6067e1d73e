"""Converts values of any kind to the tensors of a GZSL problem, and notes what is wrong."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d3_plugin.checks import describe, some
from d3_plugin.errors import Problems

#: The parts of a problem, and whether their rows are of seen or unseen classes.
PARTS = {"train": "seen", "test_seen": "seen", "test_unseen": "unseen"}


class DataProblems(Problems):
    """The problems of a data set, in the words of its source.

    Args:
        subject: starts the message.
        names: of the parts of a problem, where the source has others than GZSLData.
        first: the source counts classes and rows from here.
    """

    def __init__(
        self, subject: str, names: Mapping[str, str] | None = None, first: int = 0
    ) -> None:
        super().__init__(subject)
        self.first, self._names = first, names or {}

    def called(self, part: str) -> str:
        """The source's name of a part."""
        return self._names.get(part, part)

    def none_of(self, wrong: Tensor, where: str, noun: str, what: str) -> None:
        """Note these class ids or row numbers, which count from 0, unless there are none."""
        if len(wrong):
            self.add(f"{where}: {some(wrong + self.first, noun)} {what}")


def as_rows(name: str, value: Any, problems: Problems, shape: str = "(N, K)") -> Tensor | None:
    """``value`` as a float32 matrix; otherwise notes a problem and returns None."""
    tensor = _tensor(value)
    if tensor is None or tensor.ndim != 2 or tensor.numel() == 0:
        problems.add(f"{name} is {describe(value)}; expected a dense numeric matrix {shape}")
        return None
    return tensor.float()  # values too large for float32 become Inf, which is reported


def as_ids(name: str, value: Any, problems: Problems) -> Tensor | None:
    """``value`` as an int64 vector; otherwise notes a problem and returns None."""
    tensor = _tensor(value)
    if tensor is None or tensor.dtype == torch.bool or tensor.numel() not in (0, 1, *tensor.shape):
        problems.add(f"{name} is {describe(value)}; expected a vector of integers")
        return None
    tensor = tensor.reshape(-1)
    ids = tensor.long()  # PyTorch reads uint8 as a mask, and uint16 wraps around at 0 - 1
    if tensor.is_floating_point() and len(changed := tensor[ids.to(tensor.dtype) != tensor]):
        problems.add(f"{name}: {some(changed, 'values')} that are not integers")
        return None
    return ids


def as_row_numbers(
    name: str, value: Any, num_rows: Collection[int], problems: DataProblems
) -> Tensor | None:
    """Row numbers as the source counts, or a mask of 0 and 1 of any dtype, as numbers from 0.

    More than two values of 0 and 1 are a mask: as row numbers they would repeat themselves.
    Otherwise notes a problem and returns None; also if no item of ``num_rows`` is the mask's
    length, unless that is empty, because nothing tells the number of rows.
    """
    tensor = _tensor(value)
    if tensor is not None and tensor.numel() in tensor.shape:
        mask = tensor.reshape(-1)
        zero_or_one = len(mask) > 2 and bool(((mask == 0) | (mask == 1)).all())
        if zero_or_one or tensor.dtype == torch.bool:
            fits = not num_rows or len(mask) in num_rows
            known = " or ".join(map(str, sorted(num_rows)))
            problems.check(fits, f"{name} is a mask of {len(mask)} rows; there are {known}")
            return mask.nonzero()[:, 0] if fits else None
    ids = as_ids(name, value, problems)
    return None if ids is None else ids - problems.first


def as_parts(
    given: Mapping[str, Any], problems: DataProblems, class_names: Sequence[str] = ()
) -> dict[str, Tensor]:
    """The parts of a problem by their names in GZSLData, on one device.

    Args:
        given: all of them.
        problems: where problems are noted; parts that cannot be converted are left out.
        class_names: compared with the index of attributes.
    """
    called, parts = problems.called, {}
    for name, value in given.items():
        convert = as_ids if name.endswith(("labels", "classes")) else as_rows
        if (converted := convert(called(name), value, problems)) is not None:
            parts[name] = converted
    for part in PARTS:
        pair = f"{part}_features", f"{part}_labels"
        check_row_order({called(name): given[name] for name in pair}, problems)
    names_of_index(called("attributes"), given["attributes"], class_names, problems)
    devices = {called(name): str(part.device) for name, part in parts.items()}
    one = problems.check(len(set(devices.values())) < 2, f"parts on several devices: {devices}")
    return parts if one else {}


def _tensor(value: Any) -> Tensor | None:
    """A dense real tensor, detached; None if the value cannot be converted."""
    if isinstance(value, Tensor):
        tensor: Tensor = value.detach()
    else:
        try:
            array = _array(value)
            array = array.astype(array.dtype.newbyteorder("="), copy=False)
            if not array.flags.writeable or min(array.strides, default=0) < 0:
                array = array.copy()
            tensor = torch.from_numpy(array)
        except Exception:  # NumPy, pandas and PyTorch raise almost anything for other objects
            return None
    odd = tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized
    return None if odd or tensor.is_complex() else tensor


def _array(value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype != object:
        return array
    dtypes = getattr(value, "dtypes", None)  # of a pandas frame, or of a column
    if dtypes is not None and all(each.kind in "iufb" for each in np.atleast_1d(dtypes)):
        return value.to_numpy(dtype=np.float64, na_value=np.nan)  # nullable or of Arrow
    return np.stack(list(array)) if array.ndim == 1 else array  # a column of vectors


def names_of_index(
    name: str, value: Any, class_names: Sequence[str], problems: Problems
) -> list[str]:
    """The class names in the index of a pandas object; [] if it has none.

    Notes a problem if the index contradicts the order of the classes.
    """
    index = list(value.index) if hasattr(value, "iloc") else []
    ids = list(range(len(index)))
    if index == ids:
        return []
    own = [each for each in index if isinstance(each, str) and not each.isdigit()]
    if own == index and not class_names:
        return own
    given = [str(each) for each in index]
    expected, order = f"0..{len(index) - 1}", f"range({len(index)})"
    if class_names and own:
        expected = order = "class_names"
    problems.check(
        given in (list(class_names), [str(each) for each in ids]),
        f"{name} has an index of {some(given, 'classes')} instead of {expected}: "
        f"order its rows, {name}.loc[{order}], or pass {name}.to_numpy() if row c is of class c",
    )
    return own


def check_row_order(values: Mapping[str, Any], problems: Problems) -> None:
    """Check that pandas objects do not hold the same rows in different orders."""
    indexes = {name: list(v.index) for name, v in values.items() if hasattr(v, "iloc")}
    for (one, index), (other, others) in combinations(indexes.items(), 2):
        reordered = index != others and len(index) == len(others) and set(index) == set(others)
        advice = f"order one like the other, or pass {other}.to_numpy()"
        problems.check(
            not reordered, f"{one} and {other} have the same index in another order: {advice}"
        )
