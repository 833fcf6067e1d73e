"""Malformed input by the thousand: what comes out is an answer, or an error of the package's own.

Every test counts what was refused, so that a strategy which stops making malformed input fails.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor

from d3_plugin import D3Error

EXAMPLES = pytest.mark.parametrize("number", [75, pytest.param(500, marks=pytest.mark.slow)])


def examples(number: int) -> settings:
    """The same examples in every run, and no time limit for a busy machine to exceed."""
    return settings(
        max_examples=number,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def refused(call: Callable[[], Any]) -> bool:
    """Whether the call raises an error of the package's own; any other exception comes through."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call()
        except D3Error as error:
            message = str(error)
        else:
            return False
    assert message.strip(), "an error without a message"
    return True


DTYPES = [
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16),
    *(torch.bool, torch.complex64),
]
NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 3, 2**63, 10**40, float("nan"), float("inf"), -0.0, 1e-320, 1e308]),
    st.floats(allow_nan=True, allow_infinity=True),
)
NO_TENSORS = st.sampled_from([None, 3, 1.5, "text", b"bytes", [], [1.0, 2.0], {}, object(), True])
ANYTHING = st.one_of(NUMBERS, NO_TENSORS, st.text(max_size=5))


@st.composite
def tensors(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """A float tensor of this shape, or something else: shape, dtype, values, layout, type."""
    if draw(st.integers(0, 7)) == 0:
        return draw(NO_TENSORS)
    if draw(st.integers(0, 2)) == 0:
        shape = tuple(draw(st.lists(st.integers(0, 5), max_size=3)))
    made = torch.from_numpy(
        np.random.default_rng(draw(st.integers(0, 9))).normal(size=shape).astype(np.float32)
    )
    return spoiled(draw, made, torch.float32)


@st.composite
def class_ids(draw: st.DrawFn, count: int, classes: int) -> Any:
    """Integer class ids, or something else."""
    if draw(st.integers(0, 7)) == 0:
        return draw(NO_TENSORS)
    low, high = draw(st.sampled_from([(0, classes - 1)] * 3 + [(-3, 9), (0, 2**62), (classes, 99)]))
    size = count if draw(st.integers(0, 3)) else draw(st.integers(0, 6))
    values = draw(st.lists(st.integers(low, high), min_size=size, max_size=size))
    made = torch.tensor(values, dtype=torch.int64)
    if draw(st.integers(0, 7)) == 0:
        made = made[:, None]
    return spoiled(draw, made, torch.int64)


def spoiled(draw: st.DrawFn, made: Tensor, dtype: torch.dtype) -> Any:
    made = made.to(draw(st.sampled_from([dtype] * 12 + DTYPES)))
    if made.is_floating_point() and made.numel() and draw(st.integers(0, 5)) == 0:
        made.view(-1)[0] = draw(st.sampled_from([float("nan"), float("inf"), -float("inf"), 0.0]))
    how = draw(st.integers(0, 11))
    if how == 0:
        return made.to("meta")
    if how == 1 and made.ndim == 2 and made.dtype == torch.float32:
        return made.to_sparse()
    if how == 2 and made.dtype not in (torch.bfloat16, torch.float8_e4m3fn):
        return made.numpy()
    return made
