"""How D³ makes a call of a generator: its form, argument by argument."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from d3_plugin.checks import describe
from d3_plugin.errors import InputError

NoiseSource = Callable[[int], Tensor] | Distribution
"""``n -> (n, Z)``, or a distribution of rows or of single values."""


@dataclass(frozen=True)
class Attributes:
    """A row per class of a table (C, W), such as ``attributes x 17``, plus noise of the loop's."""

    table: Tensor = field(compare=False, repr=False)
    words: str = "attributes"
    jitter: float = 0.0  # standard deviation of the normal noise

    def rows(self, class_ids: Tensor, dtype: torch.dtype) -> Tensor:
        rows = self.table.to(class_ids.device, dtype)[class_ids]
        return rows + self.jitter * torch.randn_like(rows) if self.jitter else rows

    @property
    def python(self) -> str:
        """What a user writes for it; an ellipsis where only the loop knows."""
        return "attributes" if str(self) == "attributes" else "..."

    def __str__(self) -> str:
        return self.words + (f" + normal noise of {self.jitter:g}" if self.jitter else "")


@dataclass(frozen=True)
class Noise:
    """Independent random numbers, (N, width).

    Attributes:
        first, second: mean and standard deviation, or lower and upper bound.
        source: draws them instead, if given.
        seen: what the loop passes in this place, where that is no noise.
    """

    width: int
    kind: Literal["normal", "uniform"] = "normal"
    first: float = 0.0
    second: float = 1.0
    source: NoiseSource | None = None
    seen: str = field(default="", compare=False)

    def rows(self, class_ids: Tensor, dtype: torch.dtype) -> Tensor:
        n, device = len(class_ids), class_ids.device
        if self.source is not None:
            return _from_source(self.source, n, self.width).to(device, dtype)
        draw = {"normal": torch.randn, "uniform": torch.rand}[self.kind]
        rows = draw(n, self.width, dtype=dtype, device=device)
        scale = self.second if self.kind == "normal" else self.second - self.first
        as_drawn = (self.first, scale) == (0.0, 1.0)  # bit for bit
        return rows if as_drawn else self.first + scale * rows

    @property
    def python(self) -> str:
        draw = f"torch.rand{'n' * (self.kind == 'normal')}(len(attributes), {self.width})"
        scale = self.second if self.kind == "normal" else self.second - self.first
        draw = draw if scale == 1 else f"{scale:g} * {draw}"
        return draw if self.first == 0 else f"{self.first:g} + {draw}"

    def __str__(self) -> str:
        form = f"{self.kind}({self.first:g}, {self.second:g})"
        return f"noise (N, {self.width}) of {form if self.source is None else 'noise='}"


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
class Constant:
    """An object that is the same in every call."""

    value: Any = field(compare=False)
    words: str

    def rows(self, class_ids: Tensor, dtype: torch.dtype) -> Any:
        return self.value

    @property
    def plain(self) -> bool:
        """Whether it is None, a number or text."""
        return self.value is None or isinstance(self.value, (int, float, str))

    @property
    def python(self) -> str:
        return "..." if isinstance(self.value, Tensor) else self.words

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True)
class Unknown:
    """Something that D³ cannot make: what it looks like, and why it is not known."""

    words: str
    why: str = field(compare=False)
    width: int = field(default=0, compare=False)  # of floating rows
    codes: bool = field(default=False, compare=False)  # like those that a VAE's decoder gets
    python: ClassVar[str] = "..."

    def __str__(self) -> str:
        return self.words


Part = Attributes | Noise | Constant | Unknown


@dataclass(frozen=True)
class Slot:
    """One argument.

    Attributes:
        key: its position or keyword.
        parts: side by side in its columns.
        shape: of a row, if it is not (W,): (1, W), for example.
    """

    key: int | str
    parts: tuple[Part, ...]
    shape: tuple[int, ...] = ()

    def value(self, class_ids: Tensor, dtype: torch.dtype) -> Any:
        made = [part.rows(class_ids, dtype) for part in self.parts if not isinstance(part, Unknown)]
        value = made[0] if len(made) == 1 else torch.cat([each.to(dtype) for each in made], dim=1)
        return value.reshape(-1, *self.shape) if self.shape else value

    @property
    def problem(self) -> str:
        """Where D³ cannot make it, and why; empty if it can."""
        whys = "; ".join(part.why for part in self.parts if isinstance(part, Unknown))
        place = f"{self.key}=" if isinstance(self.key, str) else f"argument {self.key + 1}"
        return f"as {place} ({whys})" if whys else ""

    @property
    def python(self) -> str:
        parts = [part.python for part in self.parts]
        value = parts[0] if len(parts) == 1 else f"torch.cat([{', '.join(parts)}], 1)"
        return f"{self.key}={value}" if isinstance(self.key, str) else value

    def __str__(self) -> str:
        parts = " | ".join(map(str, self.parts))
        text = f"[{parts}]" if len(self.parts) > 1 else parts
        return f"{self.key}={text}" if isinstance(self.key, str) else text


@dataclass(frozen=True)
class CallForm:
    """How a generator is called; ``str()`` says it in one line.

    Attributes:
        slots: the arguments in order.
        known_by: how D³ knows the form: ``24 of 26 calls of the loop``.
        calls: how many calls of this form were seen.
        training: the mode in which the loop synthesises without gradient; None if not seen.
        of_unseen: whether the calls were on unseen classes, and so the loop's own synthesis.
    """

    slots: tuple[Slot, ...]
    known_by: str = field(default="", compare=False)
    calls: int = field(default=0, compare=False)
    training: bool | None = field(default=None, compare=False)
    of_unseen: bool = field(default=False, compare=False)

    def call(self, generator: nn.Module, class_ids: Tensor) -> Any:
        """Rows for these classes (N,); draws from torch's current random stream.

        Floating arguments are of the generator's dtype. The form must have no :attr:`problem`.
        """
        dtype = next(generator.parameters()).dtype
        values = [(slot.key, slot.value(class_ids, dtype)) for slot in self.slots]
        named = {key: value for key, value in values if isinstance(key, str)}
        return generator(*[value for key, value in values if isinstance(key, int)], **named)

    def to(self, device: torch.device) -> CallForm:
        """The same with its attributes on this device."""
        return self.changed(
            lambda part: (
                replace(part, table=part.table.to(device)) if isinstance(part, Attributes) else part
            )
        )

    def state_dict(self) -> dict[str, Any] | None:
        """In types that ``torch.load(weights_only=True)`` reads.

        None for a form that D³ cannot call in, or with an object of the loop's.
        """
        plain = all(part.plain for part in self.parts if isinstance(part, Constant))
        return asdict(self) if plain and not self.problem else None

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> CallForm:
        """From :meth:`state_dict`; raises whatever a damaged one leads to."""
        slots = [
            Slot(slot["key"], tuple(map(_part_of, slot["parts"])), tuple(slot["shape"]))
            for slot in state["slots"]
        ]
        return cls(**{**state, "slots": tuple(slots)})

    def with_noise(self, source: NoiseSource) -> CallForm:
        """The same with noise of the user's, also in the place of numbers that D³ cannot draw."""
        noise = any(isinstance(part, Noise) for part in self.parts)

        def change(part: Part) -> Part:
            if isinstance(part, Noise):
                return replace(part, source=source)
            if isinstance(part, Unknown) and part.width and not noise:
                return Noise(part.width, source=source)
            return part

        return self.changed(change)

    def changed(self, change: Callable[[Part], Part]) -> CallForm:
        """The same with other parts."""
        slots = [replace(s, parts=tuple(change(part) for part in s.parts)) for s in self.slots]
        return replace(self, slots=tuple(slots))

    @property
    def parts(self) -> list[Part]:
        return [part for slot in self.slots for part in slot.parts]

    @property
    def unmatched(self) -> bool:
        """Whether nothing in it says which class a row is of."""
        return not any(isinstance(part, Attributes) for part in self.parts)

    @property
    def problem(self) -> str:
        """Why D³ cannot call in this form, and what to write; empty if it can."""
        unknown = [slot for slot in self.slots if slot.problem]
        if not unknown and not self.unmatched:
            return ""
        arguments = ", ".join(slot.python for slot in self.slots)
        advice = f"attach(synthesize=lambda class_ids, attributes: generator({arguments}))"
        if self.unmatched:
            return (
                f"the loop calls {self}, and nothing in it is a row of data.attributes, scaled or "
                "not: give data= the attributes that the loop passes, or pass a function that "
                f"calls the generator as the loop does, {advice}"
            )
        where = " and ".join(slot.problem for slot in unknown)
        could = replace(self, slots=tuple(slot for slot in self.slots if not slot.problem))
        return (
            f"the loop calls {self}. D³ cannot make what it passes {where} and would call {could}. "
            f"Pass {advice} with the loop's own expression for ..."
        )

    @property
    def note(self) -> str:
        """What D³ draws where the loop passes no noise; else empty."""
        seen = [part for part in self.parts if isinstance(part, Noise) and part.seen]
        return "; ".join(f"{part.seen}: D³ draws {part}" for part in seen)

    def __str__(self) -> str:
        return f"generator({', '.join(map(str, self.slots))})"


def _part_of(state: Mapping[str, Any]) -> Part:
    kind = Attributes if "table" in state else Noise if "width" in state else Constant
    return kind(**state)
