"""What is concluded from the calls of a loop: the form that D³ calls the generator in."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from d3_plugin.data import GZSLData
from d3_plugin.hosts.call_form import (
    CallForm,
    Constant,
    Noise,
    Part,
    Slot,
    Unknown,
)
from d3_plugin.hosts.isolation import plain_pytorch
from d3_plugin.hosts.loop_calls import Argument, Call, Watcher
from d3_plugin.hosts.loop_evidence import AttributeTables, Match, named_noise, repeats

_COMPARED = 4  # rows of a call that are compared with attributes
_ENOUGH = 8  # calls that agree
_MANY = 400  # with fewer, numbers that do not look like noise may still be


def bare(generator: nn.Module) -> nn.Module:
    """The module that a loop calls through wrappers of several devices."""
    while isinstance(generator, (nn.DataParallel, DistributedDataParallel)):
        generator = generator.module
    return generator


_watched: weakref.WeakKeyDictionary[nn.Module, LoopForm] = weakref.WeakKeyDictionary()


class LoopForm:
    """Learns from the loop's own calls how it calls its generator.

    They are watched until the loop's own synthesis of unseen classes was seen and 8 calls agree.
    What was seen is looked at in :meth:`form` alone.

    Args:
        generator: the module that the loop calls, in DistributedDataParallel, compiled or neither.
        data: whose attributes the loop passes.
    """

    def __init__(self, generator: nn.Module, data: GZSLData) -> None:
        generator = bare(generator)
        self._device, self._tables = data.attributes.device, AttributeTables(data)
        self._watcher = Watcher(generator)
        self._looked = (0, True)  # at how many calls, and whether with now=True
        self._form: CallForm | None = None
        _watched[generator] = self

    @staticmethod
    def of(generator: nn.Module, data: GZSLData) -> LoopForm | None:
        """What is known of this generator's loop from another D³, if it had these attributes."""
        known = _watched.get(bare(generator))
        if known is None or not torch.equal(known._tables.attributes, data.attributes.cpu()):
            return None
        return known

    def remove(self) -> None:
        """Stop watching; what is known stays known."""
        self._watcher.remove()

    def form(self, *, now: bool = False) -> CallForm | None:
        """The form of the loop's calls; None before one with attributes, or 8 others, was seen.

        Args:
            now: look at everything seen. Otherwise only after 1, 2, 4, 8, ... calls: looking makes
                a GPU wait.
        """
        calls = self._watcher.calls[:]
        due = len(calls).bit_length() > self._looked[0].bit_length()
        if due or (now and self._looked != (len(calls), now)):
            self._looked = len(calls), now
            learnt = learn(calls, self._tables, now=now)
            # What 8 calls have shown only the loop's own synthesis changes, so that a run that
            # continues with the form of its state goes on as one that was never stopped.
            form = self._form
            settled = form is not None and form.calls >= _ENOUGH and not form.problem
            if learnt is not None and (not settled or learnt.of_unseen):
                self.take(learnt)
        return self._form

    def take(self, form: CallForm) -> None:
        """This is the form, from the loop's calls or from a saved state."""
        self._form = form.to(self._device)
        if form.training is not None and form.calls >= _ENOUGH:
            self.remove()


@plain_pytorch()
@torch.no_grad()
def learn(calls: list[Call], tables: AttributeTables, *, now: bool) -> CallForm | None:
    """The form of most calls with attributes, and of the loop's own synthesis if there is one.

    Other calls may be reconstruction, or on mixtures of classes.

    Args:
        calls: what was seen.
        tables: of the data's attributes.
        now: answer also if fewer than 8 calls have a form that D³ cannot call in.
    """
    kinds: dict[tuple[object, ...], list[Call]] = {}
    for call in calls:
        kinds.setdefault(call.kind, []).append(call)
    forms = [form for alike in kinds.values() for form in _forms(alike, tables)]
    best = max(forms, key=lambda f: (not f.unmatched, f.of_unseen, f.calls, len(f.slots)))
    few = len(calls) < _ENOUGH
    if few and (best.unmatched or (best.problem and not now)):
        return None
    same = [form for form in forms if form == best]
    agreeing = sum(form.calls for form in same)
    known_by = f"{agreeing} of {len(calls)} calls of the loop"
    if others := dict.fromkeys(str(form) for form in forms if form != best):
        known_by += f"; the others: {', '.join(others)}"
    modes = [form.training for form in same if form.training is not None]
    training = modes[-1] if modes else None
    return replace(best, calls=agreeing, known_by=known_by, training=training)


def _forms(calls: list[Call], tables: AttributeTables) -> Iterator[CallForm]:
    """The forms of calls with the same kinds of arguments: some may hold attributes."""
    matches: dict[int | str, Match] = {}
    for key in calls[0].arguments:
        arguments = [call.arguments[key] for call in calls]
        rows = _rows(arguments)
        if rows and _constant(arguments, calls[0].batch) is None:
            match = tables.find([each[:_COMPARED] for each in rows])
            matches |= {} if match is None else {key: match}
    groups: dict[tuple[bool, tuple[int | str, ...]], list[Call]] = {}
    for i, call in enumerate(calls):
        classes = {key: match.classes[i] for key, match in matches.items()}
        keys = tuple(key for key, ids in classes.items() if (ids >= 0).double().mean() > 0.5)
        of_unseen = bool(keys) and bool(torch.isin(classes[keys[0]], tables.unseen).any())
        groups.setdefault((of_unseen, keys), []).append(call)
    for (of_unseen, keys), group in groups.items():
        yield _form(group, {key: matches[key] for key in keys}, of_unseen=of_unseen)


def _form(calls: list[Call], matches: dict[int | str, Match], *, of_unseen: bool) -> CallForm:
    """The form of calls that hold attributes in the same places.

    A VAE's decoder gets codes of its encoder: D³ draws from their prior, if nothing else is noise.
    """
    slots = tuple(_slot(key, calls, matches.get(key)) for key in calls[0].arguments)
    quiet = [call.training for call in calls if of_unseen and not call.grad]
    training = quiet[-1] if quiet else None
    form = CallForm(slots, calls=len(calls), training=training, of_unseen=of_unseen)
    codes = [part for part in form.parts if isinstance(part, Unknown) and part.codes]
    noise = any(isinstance(part, Noise) for part in form.parts)
    if len(codes) != 1 or form.unmatched or noise:
        return form
    seen = f"the loop passes codes of another network ({codes[0].why})"
    prior = Noise(codes[0].width, seen=seen)
    return form.changed(lambda part: prior if part is codes[0] else part)


def _slot(key: int | str, calls: list[Call], match: Match | None) -> Slot:
    """What calls of one form pass in one place."""
    arguments = [call.arguments[key] for call in calls]
    rows, first = _rows(arguments), arguments[0]
    drawn = [not argument.computed for argument in arguments]
    parts: list[Part]
    if match is not None:
        before = [each[:, : match.place.start] for each in rows]
        after = [each[:, match.place.stop :] for each in rows]
        parts = [match.attributes]
        if before[0].numel():
            parts.insert(0, _numbers(before, drawn))
        if after[0].numel():
            parts.append(_numbers(after, drawn))
    elif (constant := _constant(arguments, calls[0].batch)) is not None:
        return Slot(key, (constant,))
    elif not rows:
        words = f"(N, {first.kind[1:]}" if first.shape else f"a {first.kind}"
        parts = [Unknown(words, "which is another in other calls")]
    elif _is_copy(key, calls):
        words = f"(N, {rows[0].shape[1]}) numbers"
        parts = [Unknown(words, "the same as in an argument before it")]
    else:
        parts = [_numbers(rows, drawn)]
    return Slot(key, tuple(parts), first.shape[1:] if len(first.shape) > 2 else ())


def _rows(arguments: list[Argument]) -> list[Tensor]:
    """Rows (n, W) of each call, on the CPU; empty if some call passes something else.

    Some GPUs lack the double precision of what follows.
    """
    rows = [each.rows.cpu() for each in arguments if each.rows is not None and each.is_rows]
    return rows if len(rows) == len(arguments) else []


def _is_copy(key: int | str, calls: list[Call]) -> bool:
    """Whether every call passes the rows of an earlier argument again."""
    for other in takewhile(lambda each: each != key, calls[0].arguments):
        pairs = [(call.arguments[key].rows, call.arguments[other].rows) for call in calls]
        if all(a is not None and b is not None and torch.equal(a, b) for a, b in pairs):
            return True
    return False


def _constant(arguments: list[Argument], batch: int) -> Constant | None:
    """What every call passes unchanged, if it is not the rows of a batch."""
    first = arguments[0]
    if first.kind == "NoneType" or first.value is not None:
        same = all(each.value == first.value for each in arguments)
        return Constant(first.value, repr(first.value)) if same else None
    original = first.original() if first.original is not None else None
    if original is None or first.computed or first.shape[:1] == (batch,):
        return None
    for each in arguments:
        if each.original is None or each.original() is not original:
            return None
        if each.rows is not None and first.rows is not None and not each.rows.equal(first.rows):
            return None
    what = f"{first.shape} tensor" if first.rows is not None else first.kind
    return Constant(original, f"the same {what}")


def _numbers(calls: list[Tensor], drawn: list[bool]) -> Part:
    """Noise, the same row everywhere, or what else they look like.

    Args:
        calls: (n, W) of each.
        drawn: whether it is no output of another network, in each call; a loop may pass codes of an
            encoder in one call and noise in the next.
    """
    rows, width, new = torch.cat(calls).double(), calls[0].shape[1], list[Tensor]()
    for call, noise in zip(calls, drawn, strict=True):
        if noise and not any(repeats(call.double(), old) for old in new):
            new.append(call.double())
    few = sum(call.numel() for call in new) < _MANY
    named = named_noise(torch.cat(new)) if new and (all(drawn) or not few) else None
    if named is not None:
        return named
    if all(drawn) and few:
        return Noise(width)  # the guess, until more is seen
    mean, deviation = rows.mean().item(), rows.std().item()
    what = "neither normal nor uniform noise" if all(drawn) else "computed by another network"
    figures = f"mean {mean:.2g}, standard deviation {deviation:.2g}, {what}"
    codes = not all(drawn) and abs(mean) < 0.5 and 0.2 < deviation < 3
    return Unknown(f"(N, {width}) numbers", figures, width, codes)
