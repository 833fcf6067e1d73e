"""The form of a generator's call, as the loop makes it and as D³ does."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from d3_plugin.hosts.call_parts import (
    Attributes,
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
        unmatched: no slot holds attributes or class ids, in any call seen.
    """

    slots: tuple[Slot, ...]
    known_by: str = field(default="", compare=False)
    calls: int = field(default=0, compare=False)
    training: bool | None = field(default=None, compare=False)
    unmatched: bool = field(default=False, compare=False)

    def call(self, generator: nn.Module, class_ids: Tensor) -> Any:
        """Rows for these classes (N,); draws from torch's current random stream.

        Floating arguments are of the generator's dtype. The form must have no :attr:`problem`.
        """
        dtype = next(generator.parameters()).dtype
        values = [(slot.key, slot.value(class_ids, dtype)) for slot in self.slots]
        named = {key: value for key, value in values if isinstance(key, str)}
        return generator(*[value for key, value in values if isinstance(key, int)], **named)

    def with_noise(self, source: NoiseSource) -> CallForm:
        """The same with other noise; for those who evaluate without a loop (``noise=``)."""
        return self._changed(
            lambda part: replace(part, source=source) if isinstance(part, Noise) else part
        )

    def with_prior(self) -> CallForm:
        """With standard normal noise for the codes of a VAE's encoder, if nothing else is noise."""
        codes = [part for part in self.parts if isinstance(part, Unknown) and part.codes]
        if len(codes) != 1 or any(isinstance(part, Noise) for part in self.parts):
            return self
        seen = f"the loop passes codes of another network ({codes[0].why})"
        noise = Noise(codes[0].codes, seen=seen)
        return self._changed(lambda part: noise if part is codes[0] else part)

    def _changed(self, change: Callable[[Part], Part]) -> CallForm:
        slots = [replace(s, parts=tuple(change(part) for part in s.parts)) for s in self.slots]
        return replace(self, slots=tuple(slots))

    @property
    def parts(self) -> list[Part]:
        return [part for slot in self.slots for part in slot.parts]

    @property
    def problem(self) -> str:
        """Why D³ cannot call in this form, and what to write; empty if it can."""
        unknown = [slot for slot in self.slots if any(isinstance(p, Unknown) for p in slot.parts)]
        if not unknown and not self.unmatched:
            return ""
        advice = f"attach(synthesize=lambda class_ids, attributes: {self.code})"
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

    @property
    def code(self) -> str:
        """The call as a line of Python."""
        return f"generator({', '.join(slot.code for slot in self.slots)})"

    def __str__(self) -> str:
        return f"generator({', '.join(map(str, self.slots))})"


def guessed_form(
    generator: nn.Module, attributes: Tensor, noise_width: int, condition_names: Sequence[str]
) -> CallForm:
    """The form by the names of the generator's parameters: standard normal noise, attributes.

    Args:
        generator: where no parameter has one of the names, noise is the first argument.
        attributes: (C, A) of all classes.
        noise_width: Z.
        condition_names: that take attributes.
    """
    names = parameter_names(generator)
    condition = next((name for name in names if name in condition_names), None)
    noise, given = (Noise(noise_width),), (Attributes(attributes),)
    if condition is None:
        slots = Slot(0, noise), Slot(1, given)
    elif names[0] == condition:
        slots = Slot(0, given), Slot(1, noise)
    else:
        slots = Slot(0, noise), Slot(condition, given)
    return CallForm(slots, known_by="guessed by the names of the generator's parameters")


def contradiction(generator: nn.Module, guess: CallForm, learnt: CallForm) -> str:
    """The sentence for a warning if the forms differ; empty if they make the same call."""
    names = parameter_names(generator)

    def by_name(form: CallForm) -> dict[int | str, Slot]:
        keys: dict[int | str, str] = dict(enumerate(names))
        named = {keys.get(s.key, s.key): s for s in form.slots}
        nothing = (Constant(None, "None"),)
        return {key: replace(s, key=key) for key, s in named.items() if s.parts != nothing}

    if by_name(guess) == by_name(learnt):
        return ""
    return (
        f"the loop calls {learnt} ({learnt.known_by}); until now D³ called {guess}, "
        f"{guess.known_by}. It goes on in the loop's form"
    )


def parameter_names(generator: nn.Module) -> list[str]:
    """Of ``forward``, in order; empty if it has no signature."""
    while isinstance(generator, (nn.DataParallel, DistributedDataParallel)):
        generator = generator.module
    try:
        parameters = inspect.signature(generator.forward).parameters.values()
    except (TypeError, ValueError):  # a scripted module
        return []
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
