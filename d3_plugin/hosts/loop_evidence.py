"""Recognises attribute rows, and names noise, among the numbers that a loop passes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from d3_plugin.data import GZSLData
from d3_plugin.hosts.call_form import Attributes, Noise

SAME = 4.5e-3
"""Distance of unit attribute rows up to which they are of one class: rows in half precision pass,
and the two nearest classes of AWA, APY, CUB, FLO and SUN are 9 times farther apart."""

_FEW = 64  # with fewer values normal and uniform noise look the same


Found = tuple[Attributes, Tensor]
"""What rows (n, W) are, and the classes (n,) of the rows, -1 for one that is something else."""


class Match(NamedTuple):
    """Attributes in the columns ``place`` of an argument.

    Attributes:
        classes: (n,) of the rows of each call, -1 for a row that is something else.
    """

    place: slice
    attributes: Attributes
    classes: list[Tensor]


class AttributeTables:
    """The attributes that a loop may pass, on the CPU.

    Attributes:
        attributes, seen, unseen: (C, A), (S,) and (U,) class ids.
        tables: the attributes in the forms in which the field passes them.
    """

    def __init__(self, data: GZSLData) -> None:
        self.attributes = data.attributes.cpu()
        self.seen, self.unseen = data.seen_classes.cpu(), data.unseen_classes.cpu()
        rows = self.attributes.double()
        tables = {
            "attributes": rows,
            "unit attributes": F.normalize(rows),
            "attributes / row sum": rows / rows.sum(1, True),
        }
        for which, some in (("", rows), (" of seen classes", rows[self.seen])):
            low, high = some.amin(0), some.amax(0)
            tables |= {
                f"standardised attributes{which}": (rows - some.mean(0)) / some.std(0),
                f"attributes in [0, 1] by column{which}": (rows - low) / (high - low),
                f"attributes in [0, 1]{which}": (rows - low.min()) / (high.max() - low.min()),
            }
        self.tables = {words: table for words, table in tables.items() if table.isfinite().all()}

    def find(self, calls: list[Tensor]) -> Match | None:
        """Attributes in rows (n, W) of each call: alone, or at one end of wider rows.

        Rows that are something else do not matter; the form that fits most rows is the answer.
        """
        rows = torch.cat(calls)
        width, own = rows.shape[1], self.attributes.shape[1]
        ends = slice(width - own, width), slice(0, own)
        for place in ends if width > own else [slice(0, width)]:
            part, plain = rows[:, place].double(), [*self.tables.items()][:2]
            exact = (each for named in self.tables.items() for each in _exact(part, *named))
            noisy = (_with_noise(part, *named) for named in plain)
            columns = (_columns(part, *named) for named in plain)
            for way in (exact, noisy, columns) if width >= own else (columns,):
                if (found := _best(way)) is not None:
                    attributes, classes = found
                    return Match(place, attributes, list(classes.split([*map(len, calls)])))
        return None


def _best(tried: Iterable[Found]) -> Found | None:
    """The first that explains most rows, at least one."""
    best, most = None, 0
    for found in tried:
        if (explained := int((found[1] >= 0).sum())) > most:
            best, most = found, explained
        if most == len(found[1]):
            break
    return best


def _found(words: str, table: Tensor, classes: Tensor, fits: Tensor, jitter: float = 0.0) -> Found:
    return Attributes(table.float(), words, jitter), classes.masked_fill(~fits, -1)


def _times(words: str, factor: float) -> str:
    return words if factor == 1 else f"{words} x {factor:.3g}"


def _exact(rows: Tensor, words: str, table: Tensor) -> Iterator[Found]:
    """Rows of the table; and times the factor that most of them have."""
    angles, nearest = torch.cdist(F.normalize(rows), F.normalize(table)).min(dim=1)
    factors = _factors(rows, table[nearest])[angles <= SAME]
    median = factors.nanmedian().item() if len(factors) else 0.0
    for factor in (1.0, _rounded(median, 1e-4 * abs(median))):
        distances, classes = torch.cdist(rows, factor * table).min(dim=1)
        expected = factor * table[classes]
        fits = (distances <= 2 * SAME * expected.norm(dim=1)) & (factor != 0)
        yield _found(_times(words, factor), factor * table, classes, fits)


def _with_noise(rows: Tensor, words: str, table: Tensor) -> Found:
    """Rows of the table times a factor, plus noise much smaller than what separates classes."""
    angles = torch.cdist(F.normalize(rows), F.normalize(table))
    nearest, classes = angles.min(dim=1)
    others = (table[classes][:, None] != table).any(dim=2)  # classes may share their attributes
    second = angles.where(others, torch.inf).amin(dim=1)
    clear = (nearest < 0.5 * second) & second.isfinite()
    # In a few dimensions a random row is sometimes near one.
    clear &= (clear.sum() >= 4) & (clear.double().mean() >= 0.5) & (table.shape[1] >= 4)
    if not clear.any():
        return _found(words, table, classes, clear)
    chosen = table[classes[clear]]
    factor = _factors(rows[clear], chosen).median().item()
    factor = _rounded(factor, 0.03 * abs(factor))
    jitter = (rows[clear] - factor * chosen).square().mean().sqrt().item()
    jitter = _rounded(jitter, 0.03 * jitter)
    return _found(_times(words, factor), factor * table, classes, clear, jitter)


def _factors(rows: Tensor, expected: Tensor) -> Tensor:
    return (rows * expected).sum(1) / expected.square().sum(1)


def _columns(rows: Tensor, words: str, table: Tensor) -> Found:
    """Some columns of the table, or all in another order."""
    ordered = table.sort(dim=1).values
    tolerance = SAME * table.abs().amax()
    classes = torch.full((len(rows),), -1)
    for number, row in enumerate(rows):  # the classes that have every value of the row
        at = torch.searchsorted(ordered, row.expand(len(table), -1).contiguous())
        beside = [ordered.gather(1, (at - k).clamp(0, ordered.shape[1] - 1)) for k in (0, 1)]
        gaps = torch.minimum(*[(each - row).abs() for each in beside])
        possible = (gaps <= tolerance).all(dim=1).nonzero()[:, 0]
        if len(possible) == 1 and rows.shape[1] > 2:
            classes[number] = possible[0]
    known = classes >= 0
    if known.sum() < 2:
        return _found(words, table, classes, known & False)
    gaps = (table[classes[known]][:, :, None] - rows[known][:, None, :]).abs()  # (n, A, W)
    columns = gaps.amax(dim=0).argmin(dim=0)
    fits = (rows - table[classes][:, columns]).abs().amax(dim=1) <= tolerance
    what = "in another order" if len(columns) == table.shape[1] else f"of {table.shape[1]}"
    words = f"{words}, {len(columns)} columns {what}"
    return _found(words, table[:, columns], classes, fits & known)


def repeats(call: Tensor, earlier: Tensor) -> bool:
    """Whether these are the earlier numbers, as in a closure, or moved a little, as by Langevin."""
    if call.shape != earlier.shape or torch.equal(call, earlier):
        return call.shape == earlier.shape
    if len(call) > 1:  # columns of their own, as codes of an encoder have, repeat no row
        call, earlier = call - call.mean(dim=0), earlier - earlier.mean(dim=0)
    both = torch.stack([call.flatten(), earlier.flatten()])
    return bool(torch.corrcoef(both)[0, 1] > 0.5)


def named_noise(values: Tensor) -> Noise | None:
    """Normal or uniform noise that numbers (n, Z) look like; None if they look like neither."""
    x, n = values.flatten(), values.numel()
    if n < 2 or not x.isfinite().all() or x.std() == 0:
        return None
    low, high, mean, deviation = (
        f(x).item() for f in (torch.amin, torch.amax, torch.mean, torch.std)
    )
    few = n < _FEW
    # The range of uniform numbers is 3.5 deviations, of 64 normal ones about 4.7.
    uniform = (n >= 8 and low >= 0 and high <= 1) if few else high - low < 4.1 * deviation
    if uniform:
        error = (0.01 + 5 / n) * (high - low)
        low, high = _rounded(low, error), _rounded(high, error)
        noise = Noise(values.shape[1], "uniform", low, high)
        expected = ((x.sort().values - low) / (high - low)).clamp(0, 1)
    else:
        mean = _rounded(mean, 4 * deviation / math.sqrt(n))
        deviation = _rounded(deviation, max(0.03, 2.8 / math.sqrt(n)) * deviation)
        noise = Noise(values.shape[1], "normal", mean, deviation)
        expected = torch.special.ndtr((x.sort().values - mean) / deviation)
    if few:
        return noise
    steps = (torch.ones_like(x).cumsum(0) - 1) / n
    alike = (expected - steps).abs().max() <= 2 / math.sqrt(n) + 0.02
    return noise if alike and _independent(values) else None


def _independent(values: Tensor) -> bool:
    """Whether no row or column has a mean or spread of its own."""
    for x in (values, (values - values.mean()).square()):
        x = (x - x.mean()) / x.std()
        for dim in (0, 1):
            means = x.mean(dim) * math.sqrt(x.shape[dim])  # of variance 1 if all is of one kind
            if len(means) > 1 and means.square().mean() > 1.3 + 8 / math.sqrt(len(means)):
                return False
    return True


def _rounded(value: float, error: float) -> float:
    """The number with the fewest digits that is this one up to an error."""
    shorter = (0.0, 1.0, *(float(f"{value:.{digits}g}") for digits in (1, 2, 3)))
    return next((short for short in shorter if abs(short - value) <= error), value)
