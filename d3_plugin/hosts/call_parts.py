"""The parts of a generator call's arguments, and how D³ makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from d3_plugin.checks import describe
from d3_plugin.errors import InputError

NoiseSource = Callable[[int], Tensor] | Distribution
"""``n -> (n, Z)``, or a distribution of rows or of single values."""


@dataclass(frozen=True)
class Attributes:
    """One row per class, as the generator gets it.

    Attributes:
        table: (C, W), already multiplied by the factor.
        words: a description, such as ``attributes x 17``.
        jitter: standard deviation of the normal noise that the loop adds.
    """

    table: Tensor = field(compare=False, repr=False)
    words: str = "attributes"
    jitter: float = 0.0

    def rows(self, class_ids: Tensor, dtype: torch.dtype) -> Tensor:
        rows = self.table.to(class_ids.device, dtype)[class_ids]
        return rows + self.jitter * torch.randn_like(rows) if self.jitter else rows

    def __str__(self) -> str:
        return self.words + (f" + normal noise of {self.jitter:g}" if self.jitter else "")


@dataclass(frozen=True)
class Noise:
    """Independent random numbers, (N, width).

    Attributes:
        width: Z.
        kind: of their distribution.
        first, second: mean and standard deviation, or lower and upper bound.
        shared: whether all rows of a call get the same.
        source: draws them instead, if given.
        seen: a description of what the loop passes here instead of noise; empty if it is noise.
    """

    width: int
    kind: Literal["normal", "uniform"] = "normal"
    first: float = 0.0
    second: float = 1.0
    shared: bool = False
    source: NoiseSource | None = None
    seen: str = field(default="", compare=False)

    def rows(self, class_ids: Tensor, dtype: torch.dtype) -> Tensor:
        n, device = len(class_ids), class_ids.device
        if self.source is not None:
            return _from_source(self.source, n, self.width).to(device, dtype)
        draw = torch.randn if self.kind == "normal" else torch.rand
        rows = draw(1 if self.shared else n, self.width, dtype=dtype, device=device)
        scale = self.second if self.kind == "normal" else self.second - self.first
        if (self.first, scale) != (0.0, 1.0):  # else as it was drawn, bit for bit
            rows = self.first + scale * rows
        return rows.expand(n, -1)

    def __str__(self) -> str:
        what = f"{self.kind}({self.first:g}, {self.second:g})"
        if self.source is not None:
            what = "noise="
        shared = ", one draw for all rows" if self.shared else ""
        return f"noise (N, {self.width}) of {what}{shared}"


def _from_source(source: NoiseSource, n: int, width: int) -> Tensor:
    """(n, Z) as the user draws them."""
    if isinstance(source, Distribution):
        single = not source.batch_shape + source.event_shape
        rows: object = source.sample(torch.Size((n, width) if single else (n,)))
    else:
        rows = source(n)
    if not isinstance(rows, Tensor) or rows.ndim != 2 or len(rows) != n:
        raise InputError(
            f"noise= must give ({n}, Z) for {n} rows, got {describe(rows)}; pass a function of "
            "the number of rows, such as noise=lambda n: 0.1 * torch.randn(n, Z), or a "
            "torch.distributions.Distribution"
        )
    return rows


@dataclass(frozen=True)
class ClassIds:
    """Class ids as in the data: int64, one per row."""

    def rows(self, class_ids: Tensor, _: torch.dtype) -> Tensor:
        return class_ids[:, None]

    def __str__(self) -> str:
        return "class ids"


@dataclass(frozen=True)
class Constant:
    """The same in every call.

    Attributes:
        value: passed as it is; with ``per_row`` a tensor (W,) that each row gets.
        words: a description.
    """

    value: Any = field(compare=False)
    words: str
    per_row: bool = False

    def rows(self, class_ids: Tensor, _: torch.dtype) -> Any:
        return self.value.expand(len(class_ids), -1) if self.per_row else self.value

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True)
class Unknown:
    """Something that D³ cannot make.

    Attributes:
        words: what it looks like.
        why: the reason why D³ cannot make it.
        width: of its rows, if they are floating-point.
        codes: whether it looks like the latent codes that a VAE's encoder gives the decoder.
    """

    words: str
    why: str = field(default="", compare=False)
    width: int = field(default=0, compare=False)
    codes: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return self.words


Part = Attributes | Noise | ClassIds | Constant | Unknown


@dataclass(frozen=True)
class Slot:
    """One argument.

    Attributes:
        key: its position or keyword.
        parts: side by side along the last dimension.
        shape: of a row, -1 for W; along other dimensions it is repeated. Empty for one number.
    """

    key: int | str
    parts: tuple[Part, ...]
    shape: tuple[int, ...] = (-1,)

    def value(self, class_ids: Tensor, dtype: torch.dtype) -> Any:
        made = [part.rows(class_ids, dtype) for part in self.parts if not isinstance(part, Unknown)]
        rows = made[0] if len(made) == 1 else torch.cat([each.to(dtype) for each in made], dim=1)
        if self.shape == (-1,):
            return rows
        ones = [rows.shape[1] if size == -1 else 1 for size in self.shape]
        return rows.reshape(len(rows), *ones).expand(-1, *self.shape)

    def __str__(self) -> str:
        parts = " | ".join(map(str, self.parts))
        text = f"[{parts}]" if len(self.parts) > 1 else parts
        if len(self.shape) > 1:
            text += f" as (N, {', '.join('W' if size == -1 else str(size) for size in self.shape)})"
        return f"{self.key}={text}" if isinstance(self.key, str) else text
