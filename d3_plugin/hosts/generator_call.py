"""How D³ calls a generator: as its loop does, or by the names of its parameters before that."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d3_plugin.data import GZSLData
from d3_plugin.errors import HostError, warn
from d3_plugin.hosts.call_form import (
    Attributes,
    CallForm,
    Noise,
    NoiseSource,
    Part,
    Slot,
)
from d3_plugin.hosts.isolation import RandomStream
from d3_plugin.hosts.loop_form import LoopForm, bare

_WORDS = ("att", "attr", "attribute", "semantic")
CONDITION_NAMES = ("c", "cond", "condition", *_WORDS, *(f"{word}s" for word in _WORDS))
"""Parameters of a generator's ``forward`` that take the attributes."""

Synthesis = Callable[[Tensor, Tensor], Tensor]
"""``(class_ids (N,), attributes (N, A)) -> features (N, D)``."""

_ADVICE = "attach(synthesize=lambda class_ids, attributes: ...)"


class CallFailedError(HostError):
    """The generator does not take the call that D³ guessed; its loop may show another."""


class GeneratorCall:
    """The default synthesis: ``(class_ids (N,), attributes (N, A)) -> features (N, D)``.

    Args:
        generator: to be called.
        data: whose attributes it gets.
        noise_dim: Z of the guess; None for :func:`noise_width`.
        noise: the user's, in the place of what the loop draws.

    Attributes:
        loop: watches the loop's own calls, from :meth:`watch` on.
    """

    def __init__(
        self,
        generator: nn.Module,
        data: GZSLData,
        noise_dim: int | None = None,
        noise: NoiseSource | None = None,
    ) -> None:
        self._generator, self._noise, self._width_given = generator, noise, noise_dim is not None
        width = noise_dim or noise_width(generator, data.attributes.shape[1])
        self.guess = guessed_form(generator, data.attributes, width)
        self._width, self._data = width, data
        self.loop = LoopForm.of(generator, data)
        self._guess_used = self._noted = False

    def watch(self) -> None:
        """Learn from the loop's own calls from now on."""
        self.loop, self._guess_used = LoopForm(self._generator, self._data), False

    def form(self, *, now: bool = False) -> CallForm:
        """The loop's, where it is known, or else the guess; see :meth:`LoopForm.form`."""
        learnt = self.loop.form(now=now) if self.loop is not None else None
        form = learnt or self.guess
        return form if self._noise is None else form.with_noise(self._noise)

    @property
    def learnt(self) -> CallForm | None:
        """The form of the loop's calls; None before it is known."""
        return None if self.loop is None else self.loop.form()

    @property
    def seen(self) -> bool:
        """Whether the form is the loop's own."""
        return self.learnt is not None

    def others(self) -> list[CallForm]:
        """Other forms than the guess; none once the loop's own is known."""
        if self.seen:
            return []
        table, (first, second) = self._data.attributes, self.guess.slots
        swapped = replace(first, parts=second.parts), replace(second, parts=first.parts)
        other_parts: tuple[Part, ...] = (
            Attributes(F.normalize(table), "unit attributes"),
            Attributes(10 * table, "attributes x 10"),
            Attributes(0.1 * table, "attributes x 0.1"),
            Noise(self._width, "uniform"),
            Noise(self._width, "normal", 0.0, 0.1),
        )
        others = [self.guess.changed(partial(_in_place_of, part)) for part in other_parts]
        return [replace(self.guess, slots=swapped), *others]

    def state_dict(self) -> dict[str, Any] | None:
        """The form of the loop's calls; None before it is known."""
        return None if self.learnt is None else self.learnt.state_dict()

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Go on in this form; raises whatever a damaged state leads to."""
        if state is None or self.loop is None:
            return
        form, last = CallForm.from_state_dict(state), self._data.num_classes - 1
        with RandomStream(0, torch.device("cpu"), "trial"):
            for slot in form.slots:  # what is damaged shows here
                slot.value(torch.tensor([0, last]), torch.float32)
        self.loop.take(form)

    def __call__(self, class_ids: Tensor, _: Tensor) -> Tensor:
        form, seen = self.form(), self.seen
        if form.problem:
            raise HostError(form.problem)
        if seen and self._guess_used:
            self._guess_used = False
            if other := contradiction(self._generator, self.guess, form):
                warn(other)
        if form.note and not self._noted:  # its figures change with every look at the loop
            self._noted = True
            warn(form.note)
        try:
            rows: Tensor = form.call(self._generator, class_ids)
        except torch.cuda.OutOfMemoryError:
            raise
        except (TypeError, RuntimeError) as error:
            kind = HostError if self._width_given else CallFailedError
            raise kind(
                f"{form} failed: {error}. D³ knows this call by {form.known_by}: call the "
                "generator in your loop before loss(), or pass attach(noise_dim=...) for noise of "
                f"another width, {_ADVICE} for another call"
            ) from error
        self._guess_used |= not seen
        if not isinstance(rows, Tensor):
            return rows  # which is refused
        guessed_width = not (seen or self._width_given or self._noise is not None)
        if guessed_width and rows.shape[-1] == self._width:
            raise HostError(
                f"the generator's first input is {self._width} wide, as the features: for a VAE "
                f"pass its decoder as {_ADVICE}; if the noise is that wide pass "
                f"noise_dim={self._width}"
            )
        if rows.ndim > 2 and max(rows.shape[1:]) == rows[0].numel():
            return rows.flatten(1)  # (N, 1, D), of a loop whose inputs are (N, 1, Z) and (N, 1, A)
        return rows


def _in_place_of(other: Part, part: Part) -> Part:
    return other if type(part) is type(other) else part


def guessed_form(generator: nn.Module, attributes: Tensor, width: int) -> CallForm:
    """Standard normal noise first, and attributes second or by a name of :data:`CONDITION_NAMES`.

    Position alone is not enough for TF-VAEGAN's ``forward(z, a1=None, c=None, ...)``.

    Args:
        generator: with its parameters' names, if it has them.
        attributes: (C, A) of all classes.
        width: Z of the noise.
    """
    names = _parameter_names(generator)
    condition = next((name for name in names if name in CONDITION_NAMES), None)
    noise, given = (Noise(width),), (Attributes(attributes),)
    slots = Slot(0, noise), Slot(1 if condition is None else condition, given)
    if condition is not None and names[0] == condition:
        slots = Slot(0, given), Slot(1, noise)
    return CallForm(slots, known_by="the names of the generator's parameters, a guess")


def contradiction(generator: nn.Module, guess: CallForm, learnt: CallForm) -> str:
    """The sentence for a warning if the forms differ; empty if they make the same call."""
    names: dict[int | str, str] = dict(enumerate(_parameter_names(generator)))
    guessed, seen = (
        {names.get(s.key, s.key): s.parts for s in form.slots if str(s.parts[0]) != "None"}
        for form in (guess, learnt)
    )
    if guessed == seen:
        return ""
    return (
        f"the loop calls {learnt} ({learnt.known_by}); until now D³ called {guess}, by "
        f"{guess.known_by}. It goes on in the loop's form"
    )


def noise_width(generator: nn.Module, attribute_dim: int) -> int:
    """Width Z of the noise: input width of the first linear layer minus that of the attributes.

    Args:
        generator: its first ``nn.Linear``, in the order they were made, takes noise and attributes
            side by side in most of the field.
        attribute_dim: A; also returned if that layer is not wider or does not exist.
    """
    first = next((m for m in generator.modules() if isinstance(m, nn.Linear)), None)
    rest = first.in_features - attribute_dim if first is not None else 0
    return rest if rest > 0 else attribute_dim


def _parameter_names(generator: nn.Module) -> list[str]:
    """Of ``forward``, in order; empty if it has no signature."""
    try:
        parameters = inspect.signature(bare(generator).forward).parameters.values()
    except (TypeError, ValueError):  # a scripted module
        return []
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
