"""Checks that D³ synthesises as the loop does: compares synthetic seen rows with real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import pluggy
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d3_plugin.data import GZSLData
from d3_plugin.hooks.user_functions import synthesizes
from d3_plugin.hosts.call_form import CallForm
from d3_plugin.hosts.host import Host
from d3_plugin.hosts.isolation import RandomStream
from d3_plugin.hosts.loop_calls import own_calls
from d3_plugin.hosts.module_state import ModuleState, eval_mode, train_mode
from d3_plugin.hosts.synthesis import synthesize

Rows = Callable[[Tensor], Tensor]
"""``class_ids (N,) -> features (N, D)``, in the mode that the modules are in."""

_ROWS = 400
# cub50, flo64 and digits, one hidden layer, two seeds (table: test_seen_class_check.py): the
# right call has a link of 3.8 or more after 10 steps, 4.9 or more after 30, 9.9 on 40 classes,
# where the share of rows, 4 %, says nothing yet; a wrong order never has above 3.3.
_LINK = 4.0
_GOOD = 0.5  # above this share no other form is tried
# With attributes on a wrong scale a generator of 30 steps already reaches up to 43 %, not 4 %.
_BETTER = 0.6
_LENGTHS = 0.4, 2.5  # a generator of 10 steps: 0.5; scaled features against raw ones: 0.2 to 0.36


class Fit(NamedTuple):
    """How well synthetic rows fit the real ones.

    Attributes:
        share: of the rows that are nearest to the mean training row of their own class.
        link: mean cosine between a class's synthetic and real mean, both centred on the mean of all
            classes, minus that of different classes, in standard errors of the latter; near 0 by
            chance.
    """

    share: float
    link: float


@dataclass(frozen=True)
class SeenClassCheck:
    """The result of synthesising seen classes.

    Attributes:
        classes: how many.
        own, in_training: rows as the final classifier gets them, and rows in train mode.
        others: rows of calls of other forms, by the call.
        length: norm of synthetic rows divided by that of real rows of the same classes.
        mode_gap: distance between a class's means in eval and in train mode.
        between: distance between the means of two classes in train mode.
        equal: share of classes whose rows are all equal in eval mode.
        call_seen: whether the loop was seen to make this call; bad rows then need more training.
        warnings: sentences; empty if all is well.
    """

    classes: int
    own: Fit
    in_training: Fit
    others: Mapping[str, Fit]
    length: float
    mode_gap: float
    between: float
    equal: float
    call_seen: bool

    @property
    def warnings(self) -> list[str]:
        found = self.warnings_of_the_call
        bad = max(self.own.share, 2 * self._chance) < _GOOD
        if bad and not (found or self._informed or self.call_seen):
            found.append(
                f"{self._figures}, and their class means have no link to the real ones. Either D³ "
                "calls the generator differently from the loop, then pass attach(synthesize=...), "
                "or it has not been trained: this check cannot tell"
            )
        if self._modes_differ:
            found.append(
                f"rows in eval mode differ from rows in train mode: a class's mean moves by "
                f"{self.mode_gap:.2g}, two classes are {self.between:.2g} apart. D³ learns from "
                "train mode, the final classifier from eval mode; batch statistics that also come "
                "from other inputs do this"
            )
        if self.equal > _GOOD:
            found.append(
                "in eval mode all rows of a class are equal: there is no noise, or dropout alone "
                "makes it, and synthetic_per_class= has no effect"
            )
        return found

    @property
    def warnings_of_the_call(self) -> list[str]:
        """The warnings that point to a wrong call or wrong data, not to unfinished training."""
        found = []
        better = max(self.others, key=lambda name: self.others[name], default="")
        other = self.others.get(better, self.own)
        linked = self.own.link < _LINK < other.link and other.share > self.own.share
        if better and (other.share > _BETTER or linked):
            found.append(
                f"{self._figures}, but {other.share:.0%} with {better}: D³ seems to call the "
                "generator differently from the loop. Pass attach(synthesize=lambda class_ids, "
                "attributes: ...) with the loop's call"
            )
        usual = _LENGTHS[0] <= self.length <= _LENGTHS[1]
        if self._informed and not usual and not self._modes_differ:
            found.append(
                f"synthetic rows are {self.length:.2g} times as long as the real rows of data= of "
                "the same classes. Scale data= as the loop does, its features and its attributes"
            )
        return found

    @property
    def _chance(self) -> float:
        return 1 / self.classes

    @property
    def _informed(self) -> bool:
        """Whether rows of either mode depend on their class; hardly trained, they do not."""
        return any(
            fit.share > 2 * self._chance or fit.link >= _LINK
            for fit in (self.own, self.in_training)
        )

    @property
    def _modes_differ(self) -> bool:
        return self._informed and self.mode_gap > self.between

    @property
    def _figures(self) -> str:
        share, chance = f"{self.own.share:.0%}", f"(chance: {self._chance:.0%})"
        return f"{share} of synthetic rows of seen classes {chance} are nearest to their own class"

    def __str__(self) -> str:
        return (
            f"{self.own.share:.0%} of synthetic seen rows nearest to their own class (chance "
            f"{self._chance:.0%}), {self.length:.2g} times as long as real ones"
        )


@torch.no_grad()
def compare_with_real(
    synthesize: Rows,
    data: GZSLData,
    modules: Iterable[nn.Module] = (),
    other_forms: Mapping[str, Rows] | None = None,
    *,
    call_seen: bool = False,
    training: bool = False,
) -> SeenClassCheck:
    """Synthesise seen classes and compare them with the training rows.

    Draws from the current random streams: call it in a separate one, so that it does not advance
    the one of the evaluation.

    Args:
        synthesize: as D³ does for its final classifier; called in eval and in train mode.
        data: on the generator's device.
        modules: those whose mode is changed, and restored.
        other_forms: other calls of the generator, by what differs; tried only if ``synthesize``
            does badly. Those that fail are left out.
        call_seen: whether the loop was seen to make this call. After 100 steps the rows of a WGAN
            depend as little on their class as those of a wrong call.
        training: whether the final synthesis is in train mode.
    """
    modules, seen = list(modules), data.seen_classes
    times = max(2, _ROWS // len(seen))
    classes, own_mean = seen.repeat(times), torch.arange(len(seen)).to(seen).repeat(times)
    real = _means(data.train_features, data.train_labels, seen)

    def fit(rows: Tensor) -> Fit:
        nearest = torch.cdist(rows, real).argmin(dim=1)
        link = _link(means_of(rows), real)
        return Fit((nearest == own_mean).float().mean().item(), link)

    def means_of(rows: Tensor) -> Tensor:
        return rows.view(times, len(seen), -1).mean(dim=0)

    others = {}
    with train_mode(modules) if training else eval_mode(modules):
        rows = synthesize(classes).float()
        own = fit(rows)
        for name, other in (other_forms or {}).items() if own.share < _GOOD else ():
            try:
                others[name] = fit(other(classes).float())
            except (RuntimeError, TypeError, ValueError):  # widths that do not fit this order
                continue
    with train_mode(modules):
        in_training = synthesize(classes).float()
    norms = _means(data.train_features.norm(dim=1)[:, None], data.train_labels, seen)
    moved = (means_of(rows) - means_of(in_training)).norm(dim=1).mean()
    by_class = rows.view(times, len(seen), -1)
    return SeenClassCheck(
        classes=len(seen),
        own=own,
        in_training=fit(in_training),
        others=others,
        length=(rows.norm(dim=1).mean() / norms.mean()).item(),
        mode_gap=moved.item(),
        between=torch.pdist(means_of(in_training)).mean().item(),
        equal=torch.eq(by_class, by_class[0]).all(dim=2).all(dim=0).float().mean().item(),
        call_seen=call_seen,
    )


def compare_seen_classes(host: Host, hooks: pluggy.HookRelay, seed: int) -> SeenClassCheck:
    """:func:`compare_with_real` of a host, in a random stream of its own."""
    call, by = host.from_noise, synthesizes(hooks, host)

    def rows_of(form: CallForm) -> Rows:
        def rows(class_ids: Tensor) -> Tensor:
            with own_calls(), ModuleState(host.modules):
                made: Tensor = form.call(host.generator, class_ids)
            return made

        return rows

    with RandomStream(seed, host.device, "proof"):
        return compare_with_real(
            lambda ids: synthesize(host, hooks, ids, differentiable=False),
            host.data,
            host.modules,
            {str(form): rows_of(form) for form in call.others()} if by == "d3" else {},
            call_seen=by == "plugin" or (by == "d3" and call.seen),
            training=bool(call.form().training),
        )


def _means(rows: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
    """(S, D) mean of the rows of each class."""
    position = torch.searchsorted(classes, labels)
    sums = rows.new_zeros(len(classes), rows.shape[1]).index_add_(0, position, rows)
    return sums / position.bincount(minlength=len(classes))[:, None]


def _link(means: Tensor, real: Tensor) -> float:
    """See :class:`Fit`."""
    cosines = F.normalize(means - means.mean(dim=0)) @ F.normalize(real - real.mean(dim=0)).T
    own = torch.eye(len(real), dtype=torch.bool, device=real.device)
    by_chance = cosines[~own]
    error = by_chance.std() / len(real) ** 0.5
    return float((cosines[own].mean() - by_chance.mean()) / error.clamp(min=1e-9))
