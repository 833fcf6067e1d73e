"""The real rows of a host's batch, and their class ids from its labels or attribute rows."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d3_plugin.data import GZSLData
from d3_plugin.errors import HostError, warn
from d3_plugin.functional.precision import autocast_off
from d3_plugin.hosts.batch_values import Rows, batch_tensors
from d3_plugin.hosts.loop_evidence import SAME

LabelForm = Literal["class_ids", "mapped"]


_AGREES = 0.5
"""Share of the teacher's usual agreement with labels that the host's labels must reach."""

_LOOKED_AT = 1000  # training rows, for the usual agreement
_LENGTHS = 0.7, 1.4  # of the host's rows over those of the data
_SHIFT = 0.3  # of their mean, as a share of the rows' spread
_LEAVE_OUT = "D³ learns from real rows of seen classes; leave the others out of what loss() gets"


class HostBatches:
    """Reads the batch given to ``loss()``; the first ones are checked against the teacher.

    The field's scripts use both forms of labels: f-CLSWGAN, CE-GZSL and FREE map them to positions
    among the seen classes, others keep the class ids of the data set. Both are small integers; the
    teacher, trained on these rows, can tell them apart, as soon as a batch has another meaning in
    the other form. TF-VAEGAN's loop has no labels but attribute rows, divided by their L2 norm.

    Every batch is checked for rows of no seen class: on the CPU at once, elsewhere in
    :meth:`look`. There :meth:`note` has also summed how well teacher and scale of the data fit.

    Args:
        data: the host's data.
        teacher: pre-trained on the seen classes.
        form: ``class_ids``, 0..C-1 as in the data, or ``mapped``, 0..S-1: positions among the
            sorted seen classes.
    """

    def __init__(self, data: GZSLData, teacher: nn.Module, form: LabelForm) -> None:
        self._data, self._teacher, self._form = data, teacher, form
        self._verified = self._warned = False
        device = data.train_features.device
        self._at_once = device.type == "cpu"
        self._bad = torch.zeros((), dtype=torch.long, device=device)
        self._sums = torch.zeros(4, device=device)  # rows, right ones, lengths, those of the data
        self._position = torch.full((data.num_classes,), -1, device=device)
        self._position[data.seen_classes] = torch.arange(len(data.seen_classes), device=device)
        self._is_mapped = torch.equal(self._position[data.seen_classes], data.seen_classes)

    def read(self, features: Rows, labels: Rows, attributes: Rows) -> tuple[Tensor, Tensor]:
        """Features (B, D) and class ids (B,) on the data's device; from arrays and lists, too.

        Raises:
            HostError: wrong shapes or dtypes, rows of no seen class; in the first batches also rows
                of other classes than those given.
        """
        by_label = labels is not None
        rows, given = batch_tensors(self._data, features, labels, attributes)
        ids, matches = self._ids_of_labels(given) if by_label else self._ids_of_attributes(given)
        known = matches & (self._position[ids] >= 0)
        if self._verified and not self._at_once:
            self._bad += (~known).sum()
        elif not known.all() and by_label:
            found = given[~known].unique().tolist()[:10]
            number = f"{len(ids) - int(known.sum())} of {len(ids)}"
            raise HostError(self._wrong_form(given, f"{number} are none, such as {found}"))
        elif not known.all():
            raise HostError(_wrong_attributes(ids, matches, known))
        if not self._verified and len(ids):  # it takes the teacher, and makes a GPU wait
            self._check_classes(rows, ids, given if by_label else None)
            self._warn_of_other_scale(rows.float(), ids)
            other = self._position[ids] if self._form == "class_ids" else ids
            self._verified = not by_label or self._is_mapped or not torch.equal(other, given.long())
        return rows, ids

    @property
    def finding(self) -> tuple[str, str]:
        """What is known of the loop's batches, and how; for :meth:`d3_plugin.D3.check`."""
        number, right, lengths, usual = self._sums.tolist()
        if not number:
            return self._form, "attach(labels_are=), no batch looked at yet"
        known = f"the teacher agrees with {right / number:.0%} of the last {number:.0f} rows"
        return f"{self._form}; rows {lengths / usual:.2g} times as long as in data=", known

    def note(self, rows: Tensor, ids: Tensor, teacher_logits: Tensor) -> None:
        """Sum up what :meth:`look` tells; waits for no device."""
        right = teacher_logits.argmax(dim=1) == self._position[ids]
        lengths, usual = rows.float().norm(dim=1), self._means[ids, 0]
        one = torch.ones_like(usual)
        self._sums += torch.stack([one, right.to(usual), lengths, usual]).sum(dim=1)

    def look(self) -> None:
        """Check the batches since the last look; makes a GPU wait.

        Raises:
            HostError: some rows were of no seen class.

        Warns:
            D3Warning: the teacher no longer knows the rows, or they are of another length.
        """
        if bad := int(self._bad):
            self._bad.zero_()
            raise HostError(
                f"{bad} rows given to loss() in the last steps were of no seen class: {_LEAVE_OUT}"
            )
        number, right, lengths, usual = self._sums.tolist()
        self._sums.zero_()
        if not number or self._warned:
            return
        share, length, expected = right / number, lengths / usual, self._agreement
        # A teacher that does not know its own training rows says nothing.
        strange = expected > 0.5 and share < _AGREES * expected - number**-0.5
        if strange or not _LENGTHS[0] <= length <= _LENGTHS[1]:
            self._warned = True
            warn(
                f"rows given to loss() in the last steps do not fit the classes given with them: "
                f"the teacher agrees with {share:.0%}, on the training rows with {expected:.0%}, "
                f"and they are {length:.2g} times as long. Look for rows and labels in another "
                "order, and scale data= as the loop does"
            )

    @cached_property
    def _agreement(self) -> float:
        """Share of the training rows for which the teacher predicts their class."""
        rows, labels = self._data.train_features, self._data.train_labels
        some = torch.linspace(0, len(labels) - 1, _LOOKED_AT, device=labels.device).long()
        return _share(self._predicted(rows[some]) == self._position[labels[some]])

    @cached_property
    def _means(self) -> Tensor:
        """(C, 1 + D): the mean length of each class's training rows, and their mean."""
        rows, labels = self._data.train_features, self._data.train_labels
        rows = torch.cat([rows.norm(dim=1, keepdim=True), rows], dim=1)
        sums = rows.new_zeros(self._data.num_classes, rows.shape[1]).index_add_(0, labels, rows)
        return sums / labels.bincount(minlength=len(sums)).clamp(min=1)[:, None]

    @cached_property
    def _class_rows(self) -> Tensor:
        return _distinct_rows(self._data)

    def _ids_of_labels(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Class ids, and whether each is the label's; other labels get an id that exists."""
        classes = torch.arange(len(self._position), device=labels.device)
        classes = classes if self._form == "class_ids" else self._data.seen_classes
        places = labels.long().clamp(0, len(classes) - 1)
        return classes[places], places == labels

    def _ids_of_attributes(self, attributes: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest classes, and whether each row is its class's."""
        distance, ids = _distances(F.normalize(attributes.float()), self._class_rows).min(dim=1)
        return ids, distance <= SAME  # NaN is none

    def _check_classes(self, features: Tensor, ids: Tensor, labels: Tensor | None) -> None:
        """Check that the rows are of the classes given; ``labels`` None: by attributes."""
        seen, predicted = self._data.seen_classes, self._predicted(features)
        here, other_form = _share(seen[predicted] == ids), 0.0
        if labels is not None:  # had they been of the other form
            other_form = _share(
                (seen[predicted] if self._form == "mapped" else predicted) == labels
            )
        by_chance = len(ids) ** -0.5
        if here >= _AGREES * max(self._agreement, other_form) - by_chance:
            return
        found = (
            f"the teacher agrees with {here:.0%} of the classes they give these features, and with "
            f"{self._agreement:.0%} on the training rows"
        )
        if labels is not None:
            raise HostError(
                self._wrong_form(labels, f"{found}; in the other form {other_form:.0%}")
            )
        raise HostError(
            f"attributes given to loss(): {found}. Are they of these rows, scaled as the data's?"
        )

    @torch.no_grad()
    def _predicted(self, features: Tensor) -> Tensor:
        """The classes that the teacher predicts, as positions among the seen classes."""
        with autocast_off(features):
            positions: Tensor = self._teacher(features.float())[0].argmax(dim=1)
        return positions

    def _warn_of_other_scale(self, features: Tensor, ids: Tensor) -> None:
        """Warns if the rows of the batch are scaled differently from the data's."""
        usual = self._means[ids].mean(dim=0)
        spread = self._data.train_features.var(dim=0).sum().sqrt()
        length = features.norm(dim=1).mean() / usual[0]
        shift = (features.mean(dim=0) - usual[1:]).norm() / spread
        by_chance = len(ids) ** -0.5
        same = _LENGTHS[0] <= length <= _LENGTHS[1] and shift <= _SHIFT + by_chance
        if length.isfinite() and not same:
            warn(
                f"the features given to loss() are {length:.2g} times as long as the rows of these "
                f"classes in data=, and their mean is {shift:.0%} of the rows' spread away from "
                "theirs. Scale data= as the loop does: D³'s teacher and evaluate() see data="
            )

    def _wrong_form(self, labels: Tensor, why: str) -> str:
        other = "class_ids" if self._form == "mapped" else "mapped"
        return (
            f"labels given to loss() ({int(labels.min())}..{int(labels.max())}) are not "
            f"{self._form} of the {len(self._data.seen_classes)} seen classes: {why}. Pass "
            f"attach(labels_are={other!r}) if that is their form; otherwise check that features "
            "and labels belong together, and that data= is scaled as the loop's features are"
        )


def _share(right: Tensor) -> float:
    return right.float().mean().item()


def _wrong_attributes(ids: Tensor, matches: Tensor, known: Tensor) -> str:
    if matches.all():
        unseen = ids[~known].unique().tolist()[:10]
        return f"attributes given to loss() are of unseen classes {unseen}: {_LEAVE_OUT}"
    return (
        f"{int((~known).sum())} of {len(ids)} attribute rows given to loss() match no seen class; "
        "pass rows of the data's attributes, scaled or not, or labels="
    )


def _distinct_rows(data: GZSLData) -> Tensor:
    """Unit attribute rows (C, A), of which every seen one differs from all others."""
    rows, seen = F.normalize(data.attributes.float()), data.seen_classes
    close = _distances(rows[seen], rows) < 2 * SAME  # no row can match both
    close[torch.arange(len(seen), device=seen.device), seen] = False
    pairs = {tuple(sorted((int(seen[i]), int(c)))) for i, c in close.nonzero()}
    if pairs:
        raise HostError(
            "loss(attributes=...) cannot tell classes apart whose attributes are the same up to a "
            f"factor: {sorted(pairs)[:10]}. Pass labels= instead"
        )
    return rows


def _distances(rows: Tensor, columns: Tensor) -> Tensor:
    # Without a matrix product, which autocast and TF32 would compute in lower precision.
    return torch.cdist(rows, columns, compute_mode="donot_use_mm_for_euclid_dist")
