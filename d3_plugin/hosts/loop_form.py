"""The form of a generator's call, as the loop makes it and as D³ does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from d3_plugin.hosts.call_parts import (
    Attributes,
    ClassIds,
    Constant,
    Noise,
    NoiseSource,
    Part,
    Slot,
    Unknown,
)


@dataclass(frozen=True)
class CallForm:
    """How a generator is called; ``str()`` says it in one line.

    Attributes:
        slots: the arguments in order.
        known_by: how D³ knows the form: ``24 of 26 calls of the loop``.
        calls: how many calls of this form were seen.
        training: the mode in which the loop synthesises without gradient; None if not seen.
        unmatched: whether no argument of any call seen holds attributes or class ids.
        of_unseen: whether the calls were on unseen classes: the loop's own synthesis.
    """

    slots: tuple[Slot, ...]
    known_by: str = field(default="", compare=False)
    calls: int = field(default=0, compare=False)
    training: bool | None = field(default=None, compare=False)
    unmatched: bool = field(default=False, compare=False)
    of_unseen: bool = field(default=False, compare=False)

    def call(self, generator: nn.Module, class_ids: Tensor) -> Any:
        """Rows for these classes (N,); draws from torch's current random stream.

        Floating arguments get the generator's dtype. The form must have no :attr:`problem`.
        """
        dtype = next(generator.parameters()).dtype
        values = [(slot.key, slot.value(class_ids, dtype)) for slot in self.slots]
        named = {key: value for key, value in values if isinstance(key, str)}
        return generator(*[value for key, value in values if isinstance(key, int)], **named)

    def state(self) -> dict[str, Any] | None:
        """For :func:`form_of_state`, in types that ``torch.load(weights_only=True)`` reads.

        None for a form that D³ cannot call, or that holds an object of the loop.
        """
        plain = all(
            isinstance(part.value, (Tensor, str, int, float, type(None)))
            for part in self.parts
            if isinstance(part, Constant)
        )
        if self.problem or not plain:
            return None
        slots = [
            {
                "key": slot.key,
                "parts": [{**vars(part), "part": type(part).__name__} for part in slot.parts],
                "shape": slot.shape,
            }
            for slot in self.slots
        ]
        seen = {"calls": self.calls, "training": self.training, "of_unseen": self.of_unseen}
        return {"slots": slots, "known_by": self.known_by, **seen}

    def to(self, device: torch.device) -> CallForm:
        """The same with its tensors on this device."""

        def moved(part: Part) -> Part:
            if isinstance(part, Attributes):
                return replace(part, table=part.table.to(device))
            if isinstance(part, Constant) and isinstance(part.value, Tensor):
                return replace(part, value=part.value.to(device))
            return part

        return self.changed(moved)

    def with_noise(self, source: NoiseSource) -> CallForm:
        """The same with the user's noise, also in place of numbers that D³ cannot draw."""
        noise = any(isinstance(part, Noise) for part in self.parts)

        def change(part: Part) -> Part:
            if isinstance(part, Noise):
                return replace(part, source=source)
            if isinstance(part, Unknown) and part.width and not noise:
                return Noise(part.width, source=source)
            return part

        return self.changed(change)

    def with_prior(self) -> CallForm:
        """The same with standard normal noise for an encoder's codes, if nothing else is noise."""
        codes = [part for part in self.parts if isinstance(part, Unknown) and part.codes]
        if len(codes) != 1 or any(isinstance(part, Noise) for part in self.parts):
            return self
        seen = f"the loop passes codes of another network ({codes[0].why})"
        noise = Noise(codes[0].width, seen=seen)
        return self.changed(lambda part: noise if part is codes[0] else part)

    def changed(self, change: Callable[[Part], Part]) -> CallForm:
        """The same with other parts."""
        slots = [replace(s, parts=tuple(change(part) for part in s.parts)) for s in self.slots]
        return replace(self, slots=tuple(slots))

    @property
    def parts(self) -> list[Part]:
        return [part for slot in self.slots for part in slot.parts]

    @property
    def problem(self) -> str:
        """Why D³ cannot call like this, and what to write instead; empty if it can."""
        unknown = [slot for slot in self.slots if any(isinstance(p, Unknown) for p in slot.parts)]
        if not unknown and not self.unmatched:
            return ""
        advice = f"attach(synthesize=lambda class_ids, attributes: generator({self._code}))"
        if self.unmatched:
            return (
                f"the loop calls {self}, and nothing in it is a row of data.attributes, scaled or "
                "not: give data= the attributes that the loop passes, or pass a function that "
                f"calls the generator as the loop does, {advice}"
            )
        where = [
            f"as {slot.key}=" if isinstance(slot.key, str) else f"as argument {slot.key + 1}"
            for slot in unknown
        ]
        whys = [part.why for slot in unknown for part in slot.parts if isinstance(part, Unknown)]
        could = str(replace(self, slots=tuple(s for s in self.slots if s not in unknown)))
        return (
            f"the loop calls {self}. D³ cannot make what it passes {' and '.join(where)} "
            f"({'; '.join(whys)}) and would call {could}. Pass {advice} with the loop's own "
            "expression for ..."
        )

    @property
    def note(self) -> str:
        """What D³ draws where the loop passes no noise; empty if that does not happen."""
        seen = [part for part in self.parts if isinstance(part, Noise) and part.seen]
        return "; ".join(f"{part.seen}: D³ draws {part}" for part in seen)

    def __str__(self) -> str:
        return f"generator({', '.join(map(str, self.slots))})"

    @property
    def _code(self) -> str:
        """The arguments in Python; what D³ cannot write is an ellipsis."""
        slots = []
        for slot in self.slots:
            parts = [_code(part) for part in slot.parts]
            text = parts[0] if len(parts) == 1 else f"torch.cat([{', '.join(parts)}], 1)"
            text = text if len(slot.shape) == 1 or parts == ["class_ids"] else "..."
            slots.append(f"{slot.key}={text}" if isinstance(slot.key, str) else text)
        return ", ".join(slots)


_PARTS = {kind.__name__: kind for kind in (Attributes, Noise, ClassIds, Constant)}


def form_of_state(state: Mapping[str, Any], num_classes: int) -> CallForm:
    """The form that :meth:`CallForm.state` has described.

    Raises:
        ValueError: attributes of another number of classes, or an unknown kind of noise.
        Exception: whatever a damaged state leads to.
    """
    slots = tuple(
        Slot(
            slot["key"],
            tuple(
                _PARTS[part["part"]](**{name: part[name] for name in part if name != "part"})
                for part in slot["parts"]
            ),
            tuple(slot["shape"]),
        )
        for slot in state["slots"]
    )
    form = CallForm(slots, **{name: state[name] for name in state if name != "slots"})
    for part in form.parts:
        if isinstance(part, Attributes) and len(part.table) != num_classes:
            raise ValueError(f"attributes of {len(part.table)} classes")
        if isinstance(part, Noise) and part.kind not in ("normal", "uniform"):
            raise ValueError(f"noise of kind {part.kind!r}")
    for slot in slots:
        slot.value(torch.zeros(2, dtype=torch.long), torch.float32)  # what is damaged shows here
    return form


def _code(part: Part) -> str:
    if isinstance(part, Noise) and not part.shared:
        draw = f"torch.rand{'n' * (part.kind == 'normal')}(len(attributes), {part.width})"
        scale = part.second if part.kind == "normal" else part.second - part.first
        draw = draw if scale == 1 else f"{scale:g} * {draw}"
        return draw if part.first == 0 else f"{part.first:g} + {draw}"
    if isinstance(part, ClassIds):
        return "class_ids"
    if isinstance(part, Constant) and not isinstance(part.value, Tensor):
        return part.words
    return "attributes" if str(part) == "attributes" else "..."
