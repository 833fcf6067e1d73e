"""Recognises attribute rows, noise and constants among the numbers that a loop passes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from d3_plugin.data import GZSLData
from d3_plugin.hosts.call_parts import Attributes, Constant, Noise, Part, Unknown

# Distance of unit rows up to which they are the same: rows in half precision pass, and the two
# nearest classes of AWA, APY, CUB, FLO and SUN are 9 times farther apart.
_SAME = 4.5e-3
_FEW = 64  # with fewer values normal and uniform noise look the same
_MANY = 400  # with fewer, numbers that look like neither may still be one of them


class Classes(NamedTuple):
    """The part of the data that calls are compared with, on the CPU."""

    attributes: Tensor
    seen_classes: Tensor
    unseen_classes: Tensor

    @classmethod
    def of(cls, data: GZSLData) -> Classes:
        return cls(data.attributes.cpu(), data.seen_classes.cpu(), data.unseen_classes.cpu())


class AttributeFinder:
    """Finds rows of the data's attributes, in the forms in which the field passes them.

    Args:
        data: its attributes are searched for as they are, divided by their norm or sum,
            standardised, or scaled to [0, 1] by column or as a whole, over all classes or the seen
            ones; each times any factor.
    """

    def __init__(self, data: Classes) -> None:
        self._data, self._tables = data, list(_tables(data))

    def find(self, rows: Tensor) -> tuple[Attributes, Tensor] | None:
        """The attributes that the rows (n, W) are, and the class of each: (n,), -1 for none.

        Some rows may match nothing; the form that fits most rows is returned.
        """
        attributes, rows = self._data.attributes, rows.double()
        same_width = [each for each in self._tables if each[1].shape[1] == rows.shape[1]]
        tried = (_exact(rows, *each, factor) for each in same_width for factor in (1.0, None))
        found = _best(tried)
        if found is None and rows.shape[1] == attributes.shape[1]:
            found = _best([_with_noise(rows, *each) for each in same_width[:2]])
        if found is None and 2 < rows.shape[1] <= attributes.shape[1]:
            found = _best([_columns(rows, *each) for each in self._tables[:2]])
        return found

    def side_by_side(self, rows: Tensor) -> Iterator[tuple[slice, tuple[Attributes, Tensor]]]:
        """Attributes at the left or right end of wider rows."""
        width, own = rows.shape[1], self._data.attributes.shape[1]
        if width > own:
            for place in (slice(width - own, width), slice(0, own)):
                if (found := self.find(rows[:, place])) is not None:
                    yield place, found


def _tables(data: Classes) -> Iterator[tuple[str, Tensor]]:
    """Descriptions and values (C, W) of the forms of the attributes."""
    rows = data.attributes.double()
    seen = rows[data.seen_classes]
    yield "attributes", rows
    yield "unit attributes", F.normalize(rows)
    yield "attributes / row sum", rows / rows.sum(1, True)
    for which, some in (("", rows), (" of seen classes", seen)):
        low, high = some.amin(0), some.amax(0)
        yield f"standardised attributes{which}", (rows - some.mean(0)) / some.std(0)
        yield f"attributes in [0, 1] by column{which}", (rows - low) / (high - low)
        yield f"attributes in [0, 1]{which}", (rows - low.min()) / (high.max() - low.min())


def _best(tried: Iterable[tuple[Attributes, Tensor] | None]) -> tuple[Attributes, Tensor] | None:
    """The first that explains most rows."""
    best, most = None, 0
    for found in tried:
        if found is not None and (explained := int((found[1] >= 0).sum())) > most:
            best, most = found, explained
            if most == len(found[1]):
                break
    return best


def _exact(
    rows: Tensor, words: str, table: Tensor, factor: float | None
) -> tuple[Attributes, Tensor] | None:
    """Rows of the table times a factor; None: any, the same for all."""
    if not table.isfinite().all():
        return None
    if factor is None:
        near = _distances(F.normalize(rows), F.normalize(table)).min(dim=1)
        close = near.values <= _SAME
        if not close.any():
            return None
        chosen = table[near.indices]
        factors = ((rows * chosen).sum(1) / chosen.square().sum(1))[close]
        factor = _rounded(factors.nanmedian().item(), 1e-4)
    classes = _distances(rows, factor * table).argmin(dim=1)
    expected = factor * table[classes]
    fits = (rows - expected).norm(dim=1) <= 2 * _SAME * expected.norm(dim=1)
    if not fits.any() or factor == 0:
        return None
    times = "" if factor == 1 else f" x {factor:.3g}"
    return Attributes((factor * table).float(), words + times), classes.masked_fill(~fits, -1)


def _with_noise(rows: Tensor, words: str, table: Tensor) -> tuple[Attributes, Tensor] | None:
    """Rows of the table times a factor, plus noise much smaller than what separates classes."""
    distinct = F.normalize(table).unique(dim=0)
    if len(distinct) < 2 or table.shape[1] < 4:
        return None
    nearest = _distances(F.normalize(rows), distinct).topk(2, largest=False).values
    clear = nearest[:, 0] < 0.5 * nearest[:, 1]
    classes = _distances(F.normalize(rows), F.normalize(table)).argmin(dim=1)
    # In a few dimensions a random row is sometimes near one.
    if clear.sum() < 4 or clear.double().mean() < 0.5:
        return None
    chosen = table[classes[clear]]
    factors = (rows[clear] * chosen).sum(1) / chosen.square().sum(1)
    factor = _rounded(factors.median().item(), 0.03)
    jitter = _rounded((rows[clear] - factor * chosen).square().mean().sqrt().item(), 0.03)
    words = words if factor == 1 else f"{words} x {factor:g}"
    found = Attributes((factor * table).float(), words, jitter)
    return found, classes.masked_fill(~clear, -1)


def _columns(rows: Tensor, words: str, table: Tensor) -> tuple[Attributes, Tensor] | None:
    """Some columns of the table, or all in another order."""
    ordered = table.sort(dim=1).values
    tolerance = _SAME * table.abs().amax()
    classes = torch.full((len(rows),), -1, device=rows.device)
    for number, row in enumerate(rows):  # the classes that have every value of the row
        at = torch.searchsorted(ordered, row.expand(len(table), -1).contiguous())
        beside = [ordered.gather(1, (at - k).clamp(0, ordered.shape[1] - 1)) for k in (0, 1)]
        gaps = torch.minimum(*[(each - row).abs() for each in beside])
        if (possible := (gaps <= tolerance).all(dim=1).nonzero()[:, 0]).numel() == 1:
            classes[number] = possible[0]
    known = classes >= 0
    if known.sum() < 2:
        return None
    gaps = (table[classes[known]][:, :, None] - rows[known][:, None, :]).abs()  # (n, A, W)
    columns = gaps.amax(dim=0).argmin(dim=0)
    fits = (rows - table[classes][:, columns]).abs().amax(dim=1) <= tolerance
    if not (fits & known).any():
        return None
    what = "in another order" if len(columns) == table.shape[1] else f"of {table.shape[1]}"
    words = f"{words}, {len(columns)} columns {what}"
    return Attributes(table[:, columns].float(), words), classes.masked_fill(~(fits & known), -1)


def _distances(rows: Tensor, table: Tensor) -> Tensor:
    return torch.cdist(rows, table)


def other_part(calls: list[Tensor], *, computed: list[bool], batch: list[int]) -> Part:
    """Noise, a constant row or something unknown, from the same place of several calls.

    Args:
        calls: (n, W) of each.
        computed: for each call, whether the argument is the output of a network (has a graph).
        batch: how many rows the attributes of each call have.
    """
    width = calls[0].shape[1]
    rows = torch.cat([call.double() for call in calls])
    if len(rows) > 1 and (rows == rows[0]).all() and (len(calls) > 2 or rows.std() == 0):
        words = f"{rows[0, 0]:g}" if (rows == rows[0, 0]).all() else "the same"
        return Constant(calls[0][0].clone(), f"{words} (N, {width})", per_row=True)
    shared = all(
        many > 1 and (call == call[:1]).all() for call, many in zip(calls, batch, strict=True)
    )
    if shared:
        calls = [call[:1] for call in calls]
    calls = [call.double() for call in calls]
    new = [i for i, call in enumerate(calls) if not any(_repeats(call, old) for old in calls[:i])]
    calls, computed = [calls[i] for i in new], [computed[i] for i in new]
    noise = None if any(computed) else _named(calls)
    if noise is None and not any(computed) and sum(call.numel() for call in calls) < _MANY:
        noise = Noise(width)  # the guess, until more is seen
    if noise is not None:
        return replace(noise, shared=shared)
    # A loop may pass codes in one call and noise in the next.
    drawn = [call for call, by_network in zip(calls, computed, strict=True) if not by_network]
    named = [found for call in drawn if (found := _named([call])) is not None]
    if named:
        most, number = Counter(named).most_common(1)[0]
        if number > 1 and _named([call for call in drawn if _named([call]) == most]) == most:
            return replace(most, shared=shared)
    mean, deviation = rows.mean().item(), rows.std().item()
    what = "computed by another network" if any(computed) else "neither normal nor uniform noise"
    figures = f"mean {mean:.2g}, standard deviation {deviation:.2g}, {what}"
    like_codes = any(computed) and abs(mean) < 0.5 and 0.2 < deviation < 3
    return Unknown(f"(N, {width}) numbers", figures, width, like_codes)


def _repeats(call: Tensor, earlier: Tensor) -> bool:
    """Whether these are the earlier numbers (a closure), or close to them (Langevin dynamics)."""
    if call.shape != earlier.shape:
        return False
    if torch.equal(call, earlier):
        return True
    both = torch.stack([call.flatten(), earlier.flatten()])
    now, before = F.normalize(both - both.mean())
    return bool(now @ before > 0.5)


def _named(calls: list[Tensor]) -> Noise | None:
    """Normal or uniform noise that fits all calls, or None."""
    values = torch.cat(calls)
    width, flat, n = values.shape[1], values.flatten(), values.numel()
    if n < 2 or not flat.isfinite().all() or flat.std() == 0:
        return None
    low, high = (each.item() for each in flat.aminmax())
    mean, deviation = flat.mean().item(), flat.std().item()
    # The likelihood of the best normal and the best uniform distribution.
    uniform = math.log(high - low) < math.log(deviation) + 1.4189
    if n < _FEW:
        uniform = low >= 0 and high <= 1 and n >= 8
    if uniform:
        error = 5 * (high - low) / n
        low, high = (_rounded(each, error=error + 0.01 * (high - low)) for each in (low, high))
        expected = ((flat.sort().values - low) / (high - low)).clamp(0, 1)
        noise = Noise(width, "uniform", low, high)
    else:
        error = 4 * deviation / math.sqrt(n)
        mean = _rounded(mean, error=error)
        deviation = _rounded(deviation, 0.03, error=0.7 * error)
        expected = torch.special.ndtr((flat.sort().values - mean) / deviation)
        noise = Noise(width, "normal", mean, deviation)
    if n < _FEW:
        return noise
    steps = (torch.ones_like(flat).cumsum(0) - 1) / n
    if (expected - steps).abs().max() > 2 / math.sqrt(n) + 0.02:
        return None
    return noise if _independent(calls) else None


def _independent(calls: list[Tensor]) -> bool:
    """Whether no call, row or column has a mean or spread of its own."""
    values = torch.cat(calls)
    for x in (values - values.mean(), (values - values.mean()).square()):
        x = (x - x.mean()) / x.std()
        of_calls = torch.stack([part.mean() for part in x.split([len(call) for call in calls])])
        sizes = x.new_tensor([call.numel() for call in calls])
        for means, size in ((of_calls, sizes), (x.mean(1), x.shape[1]), (x.mean(0), len(x))):
            # The mean of chi-squared numbers, 1 if all is of one kind.
            if len(means) > 1 and (means.square() * size).mean() > 1.3 + 8 / len(means) ** 0.5:
                return False
    return True


def _rounded(value: float, relative: float = 0.0, *, error: float = 0.0) -> float:
    """The number with the fewest digits that is this one up to an error."""
    allowed = max(relative * abs(value), error)
    if abs(value) <= error:
        return 0.0
    for short in (1.0, *(float(f"{value:.{digits}g}") for digits in (1, 2, 3))):
        if abs(short - value) <= allowed:
            return short
    return value
