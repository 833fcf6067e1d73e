"""Turns recorded calls into the forms that they have."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from d3_plugin.hosts.call_parts import Attributes, ClassIds, Constant, Part, Slot, Unknown
from d3_plugin.hosts.loop_evidence import AttributeFinder, Classes, other_part
from d3_plugin.hosts.loop_form import CallForm

_ROWS, _VALUES = 32, 2**14  # kept of an argument at most
_COMPARED = 4  # rows of a call that are compared with attributes


@dataclass(frozen=True)
class Argument:
    """A record of an argument, which the loop may overwrite or free afterwards.

    Attributes:
        kind: its type, or the row shape and dtype of a tensor; equal in calls of one form.
        value: the argument, if it is None, a number or text.
        rows: a copy of the first rows of a tensor.
        shape: of the tensor.
        computed: whether gradient reaches a network through it.
        original: a weak reference to the argument, if its type allows one.
    """

    kind: str
    value: Any = None
    rows: Tensor | None = None
    shape: tuple[int, ...] = ()
    computed: bool = False
    original: weakref.ref[Any] | None = None

    @classmethod
    def of(cls, value: Any) -> Argument:
        kind = type(value).__name__
        if value is None or isinstance(value, (bool, int, float, str)):
            return cls(kind, value)
        original = weakref.ref(value) if type(value).__weakrefoffset__ else None
        plain = type(value) in (Tensor, nn.Parameter) and value.layout == torch.strided
        if not plain or value.is_meta:
            return cls(kind, original=original)
        shape = tuple(value.shape)
        rows = value.detach()
        if shape:
            rows = rows[: min(_ROWS, _VALUES // max(1, value.numel() // max(1, shape[0])))]
        computed = value.requires_grad and not isinstance(value, nn.Parameter)
        kind = f"{shape[1:]} {str(value.dtype).removeprefix('torch.')} tensor"
        return cls(kind, None, rows.clone(), shape, computed, original)

    def flat(self) -> tuple[Tensor, tuple[int, ...]] | None:
        """Rows (n, W) and the shape of one, see :class:`Slot`; None if it has no rows."""
        rows = self.rows
        if rows is None or rows.ndim == 0 or not len(rows):
            return None
        if rows.ndim == 1:
            return rows[:, None], ()
        shape = list(self.shape[1:])
        wide = [place for place, size in enumerate(shape) if size > 1] or [len(shape) - 1]
        if len(wide) > 1:
            return None
        shape[wide[0]] = -1
        return rows.flatten(1), tuple(shape)


@dataclass(frozen=True)
class Call:
    """A call of the generator: the mode it was made in, and its arguments by place or name."""

    training: bool
    grad: bool
    arguments: dict[int | str, Argument]

    def on_cpu(self) -> Call:
        """The same with the copied rows on the CPU."""
        moved = {
            key: each if each.rows is None else replace(each, rows=each.rows.cpu())
            for key, each in self.arguments.items()
        }
        return replace(self, arguments=moved)

    @property
    def kind(self) -> tuple[object, ...]:
        return tuple((key, each.kind) for key, each in self.arguments.items())

    @property
    def batch(self) -> int:
        """The number of rows that most arguments have; on a tie, the first such number."""
        sizes = Counter(a.shape[0] for a in self.arguments.values() if a.shape)
        return sizes.most_common(1)[0][0] if sizes else 0


@dataclass(frozen=True)
class Reading:
    """Calls of one form.

    Attributes:
        form: of these calls.
        calls: the calls.
        of_unseen: whether they are on unseen classes, which have only synthetic rows.
    """

    form: CallForm
    calls: list[Call]
    of_unseen: bool


@dataclass(frozen=True)
class _Match:
    """Attributes in the columns ``place`` of an argument; the class of each compared row."""

    place: slice
    attributes: Attributes
    classes: list[Tensor]


def read(calls: list[Call], data: Classes, finder: AttributeFinder) -> Iterator[Reading]:
    """The forms of calls of one kind: some may hold attributes, and others not."""
    matches = {key: list(_matches(calls, key, finder)) for key in calls[0].arguments}
    found = {key: each[0] for key, each in matches.items() if each}
    if len(found) > 1:  # the whole matrix beside its rows is a constant
        found = {
            key: match
            for key, match in found.items()
            if not _same_object([call.arguments[key] for call in calls], calls)
        }
    alike: dict[tuple[tuple[int | str, ...], bool], list[int]] = {}
    for number in range(len(calls)):
        known = {key: match.classes[number] for key, match in found.items()}
        keys = tuple(key for key, ids in known.items() if (ids >= 0).double().mean() > 0.5)
        ids = known[keys[0]] if keys else torch.empty(0, dtype=torch.long)
        unseen = torch.isin(ids, data.unseen_classes).any().item()
        alike.setdefault((keys, bool(unseen)), []).append(number)
    for (keys, of_unseen), numbers in alike.items():
        own = {key: found[key] for key in keys}
        classes = [own[keys[0]].classes[i] for i in numbers] if keys else None
        some = [calls[i] for i in numbers]
        slots = tuple(_slot(key, some, own.get(key), classes, data) for key in some[0].arguments)
        by_class = any(isinstance(p, (Attributes, ClassIds)) for slot in slots for p in slot.parts)
        form = CallForm(slots, unmatched=not by_class)
        yield Reading(form.with_prior() if by_class else form, some, of_unseen)


def _matches(calls: list[Call], key: int | str, finder: AttributeFinder) -> Iterator[_Match]:
    flat = [each[0][:_COMPARED] for c in calls if (each := c.arguments[key].flat()) is not None]
    if len(flat) < len(calls) or not flat[0].is_floating_point():
        return
    rows, sizes = torch.cat(flat), [len(each) for each in flat]
    if (whole := finder.find(rows)) is not None:
        yield _Match(slice(0, rows.shape[1]), whole[0], list(whole[1].split(sizes)))
    for place, (attributes, classes) in finder.side_by_side(rows):
        yield _Match(place, attributes, list(classes.split(sizes)))


def _slot(
    key: int | str,
    calls: list[Call],
    match: _Match | None,
    classes: list[Tensor] | None,
    data: Classes,
) -> Slot:
    arguments = [call.arguments[key] for call in calls]
    flat = [argument.flat() for argument in arguments]
    rows = [each[0] for each in flat if each is not None]
    if len(rows) < len(calls) or (match is None and _same_object(arguments, calls)):
        return Slot(key, (_plain(arguments),))
    shape = flat[0][1] if flat[0] is not None else ()
    if not rows[0].is_floating_point():
        return Slot(key, (_ids(rows, classes, data),), shape)
    computed, batch = [a.computed for a in arguments], [call.batch for call in calls]
    if match is None:
        return Slot(key, (other_part(rows, computed=computed, batch=batch),), shape)
    width, place = rows[0].shape[1], match.place
    parts: list[Part] = [match.attributes]
    if place.start > 0:
        left = [each[:, : place.start] for each in rows]
        parts.insert(0, other_part(left, computed=computed, batch=batch))
    if place.stop < width:
        right = [each[:, place.stop :] for each in rows]
        parts.append(other_part(right, computed=computed, batch=batch))
    return Slot(key, tuple(parts), shape)


def _same_object(arguments: list[Argument], calls: list[Call]) -> bool:
    """Whether every call passes one parameter, or one table that is no batch, unchanged."""
    first = arguments[0].original
    original = None if first is None else first()
    if original is None or any(
        a.original is None or a.original() is not original for a in arguments
    ):
        return False
    rows = [a.rows for a in arguments if a.rows is not None]
    unchanged = all(torch.equal(each, rows[0]) for each in rows)
    no_batch = arguments[0].shape[0] != calls[0].batch
    return no_batch and (unchanged or isinstance(original, nn.Parameter))


def _plain(arguments: list[Argument]) -> Part:
    """An argument without rows: the same in every call, or unknown."""
    first = arguments[0]
    original = None if first.original is None else first.original()
    plain = first.kind == "NoneType" or first.value is not None
    if plain and all(a.value == first.value for a in arguments):
        return Constant(first.value, repr(first.value))
    if original is not None and all(a.original and a.original() is original for a in arguments):
        rows = [a.rows for a in arguments if a.rows is not None]
        if isinstance(original, nn.Parameter) or all(torch.equal(r, rows[0]) for r in rows):
            what = f"{first.shape} tensor" if first.rows is not None else first.kind
            return Constant(original, f"the same {what}")
    numbers = [a.rows for a in arguments if a.rows is not None and a.shape == ()]
    if numbers and all(torch.equal(each, numbers[0]) for each in numbers):
        return Constant(numbers[0], f"tensor({numbers[0].item():g})")
    what = f"(N, {first.kind[1:]}" if first.shape else f"a {first.kind}"
    return Unknown(what, "which is another in other calls")


def _ids(rows: list[Tensor], classes: list[Tensor] | None, data: Classes) -> Part:
    """Class ids, a constant, or integers of another meaning."""
    values = torch.cat(rows)[:, 0].to(data.seen_classes.device)
    if rows[0].shape[1] == 1 and rows[0].dtype != torch.bool:
        if classes is None:
            position = torch.arange(len(data.seen_classes)).to(data.seen_classes)
            clear = not torch.isin(values, position).all() or data.seen_classes.equal(position)
            if torch.isin(values, data.seen_classes).all() and clear:
                return ClassIds()
        else:
            compared = torch.cat([each[:_COMPARED, 0] for each in rows]).to(values)
            own = torch.cat(classes).to(values)
            if _same_rows(data.attributes, compared, own):
                return ClassIds()
            mapped = torch.searchsorted(data.seen_classes, own.contiguous())
            if torch.equal(mapped, compared):
                why = "labels mapped to positions among the seen classes; unseen ones have none"
                return Unknown("mapped labels", why)
    if (torch.cat(rows) == rows[0][0]).all():
        return Constant(rows[0][0].clone(), f"{values[0].item()} (N,)", per_row=True)
    low, high = values.min().item(), values.max().item()
    return Unknown(f"integers {low}..{high}", "which are not the class ids of these rows")


def _same_rows(attributes: Tensor, ids: Tensor, others: Tensor) -> bool:
    """Whether the ids are of these classes, or of others with the same attributes."""
    known = (ids >= 0) & (ids < len(attributes)) & (others >= 0)
    return bool(known.all()) and torch.equal(attributes[ids], attributes[others])
