"""The real rows of a host's batch, and their class ids from its labels or attribute rows."""

from __future__ import annotations

import warnings
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d3_plugin.checks import describe, is_integer
from d3_plugin.data import GZSLData
from d3_plugin.errors import D3Warning, HostError
from d3_plugin.functional.precision import autocast_off

LabelForm = Literal["class_ids", "mapped"]

_SAME = 4.5e-3
"""Distance of unit attribute rows up to which they are of one class: rows in half precision pass,
and the two nearest classes of AWA, APY, CUB, FLO and SUN are 9 times farther apart."""

_AGREES = 0.5
"""Share of the teacher's usual agreement with labels that the host's labels must reach."""

_LOOKED_AT = 1000  # training rows, for the usual agreement
_LENGTHS = 0.7, 1.4  # of the host's rows over those of the data
_SHIFT = 0.3  # of their mean, as a share of the rows' spread


class _Agreement(NamedTuple):
    """How often the teacher predicts the class that is given for a row."""

    usual: float  # on the training rows
    here: float  # on the host's rows
    other_form: float  # if the host's labels were of the other form

    def is_enough(self, rows: int) -> bool:
        chance = rows**-0.5  # in a small batch
        return bool(self.here >= _AGREES * max(self.usual, self.other_form) - chance)


class HostBatches:
    """Reads the batch given to ``loss()``; the first one is checked against the teacher.

    The field's scripts use both forms of labels: f-CLSWGAN, CE-GZSL and FREE map them to positions
    among the seen classes, others keep the class ids of the data set. Both are small integers; the
    teacher, trained on these rows, can tell them apart. TF-VAEGAN's loop has no labels but
    attribute rows, divided by their L2 norm.

    Args:
        data: the host's data.
        teacher: pre-trained on the seen classes.
        form: ``class_ids``, 0..C-1 as in the data, or ``mapped``, 0..S-1: positions among the
            sorted seen classes.
    """

    def __init__(self, data: GZSLData, teacher: nn.Module, form: LabelForm) -> None:
        self._data, self._teacher, self._form = data, teacher, form
        self._class_rows: Tensor | None = None
        self._verified = False

    def read(
        self, features: Tensor | None, labels: Tensor | None, attributes: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Features (B, D) and class ids (B,) on the data's device.

        Raises:
            HostError: wrong shapes or dtypes; in the first batch also rows of other classes than
                those given.
        """
        parts = [part for part in (features, labels, attributes) if part is not None]
        dense = all(isinstance(p, Tensor) and p.layout == torch.strided for p in parts)
        if features is None or len(parts) != 2 or not dense:
            raise HostError("loss() takes nothing, or features and labels= or attributes=, dense")
        self._check_kinds(*parts, by_label=labels is not None)
        features, given = (part.detach().to(self._data.train_features.device) for part in parts)
        ids = self._ids_of_attributes(given) if labels is None else self._ids_of_labels(given)
        if not self._verified and len(ids):  # once: it takes the teacher, and makes a GPU wait
            self._check_classes(features, ids, None if labels is None else given)
            self._warn_of_other_scale(features.float(), ids)
            self._verified = True
        return features, ids

    def _check_kinds(self, features: Tensor, given: Tensor, *, by_label: bool) -> None:
        dim = self._data.feature_dim
        shape = (*features.shape[:1], *(() if by_label else self._data.attributes.shape[1:]))
        right_kind = is_integer(given) if by_label else given.is_floating_point()
        right_rows = features.is_floating_point() and features.shape[1:] == (dim,)
        if not right_rows or given.shape != shape or not right_kind:
            raise HostError(
                f"loss() takes floating features (B, {dim}), integer labels or floating attributes "
                f"{shape}; got {describe(features)} and {describe(given)}"
            )

    def _ids_of_labels(self, labels: Tensor) -> Tensor:
        labels, seen = labels.long(), self._data.seen_classes
        if self._form == "class_ids":
            return labels
        if not self._verified and not ((labels >= 0) & (labels < len(seen))).all():
            raise HostError(self._wrong_form(labels, "they are out of range"))
        return seen[labels]

    def _ids_of_attributes(self, attributes: Tensor) -> Tensor:
        if self._class_rows is None:
            self._class_rows = _distinct_rows(self._data)
        distance, ids = _distances(F.normalize(attributes.float()), self._class_rows).min(dim=1)
        lost = ~(distance <= _SAME)  # also what is NaN
        if not self._verified and lost.any():
            raise HostError(
                f"{int(lost.sum())} of {len(ids)} attribute rows given to loss() match no class; "
                "pass rows of the data's attributes, scaled or not, or labels="
            )
        return ids

    def _check_classes(self, features: Tensor, ids: Tensor, labels: Tensor | None) -> None:
        """Check that the rows are of the classes given; ``labels`` None: by attributes."""
        unseen = ids[~torch.isin(ids, self._data.seen_classes)].unique().tolist()
        if unseen and labels is None:
            raise HostError(f"attributes given to loss() are of unseen classes {unseen[:10]}")
        agreement = self._agreement(features, ids, labels)
        if not unseen and agreement.is_enough(len(ids)):
            return
        found = (
            f"the teacher agrees with {agreement.here:.0%} of the classes they give these "
            f"features, and with {agreement.usual:.0%} on the training rows"
        )
        if labels is not None:
            found += f"; in the other form {agreement.other_form:.0%}"
            raise HostError(self._wrong_form(labels, found))
        raise HostError(
            f"attributes given to loss(): {found}. Are they of these rows, scaled as the data's?"
        )

    def _agreement(self, features: Tensor, ids: Tensor, labels: Tensor | None) -> _Agreement:
        data, seen = self._data, self._data.seen_classes
        last = len(data.train_labels) - 1
        some = torch.arange(_LOOKED_AT, device=ids.device) * last // (_LOOKED_AT - 1)
        usual = seen[self._predicted(data.train_features[some])] == data.train_labels[some]
        predicted = self._predicted(features)
        here = seen[predicted] == ids
        other_form = torch.zeros_like(here)
        if labels is not None:
            other_form = (seen[predicted] if self._form == "mapped" else predicted) == labels
        return _Agreement(*(share.float().mean().item() for share in (usual, here, other_form)))

    @torch.no_grad()
    def _predicted(self, features: Tensor) -> Tensor:
        """The classes that the teacher predicts, as positions among the seen classes."""
        with autocast_off(features):
            positions: Tensor = self._teacher(features.float())[0].argmax(dim=1)
        return positions

    def _warn_of_other_scale(self, features: Tensor, ids: Tensor) -> None:
        """Warns if the rows of the batch are scaled differently from the data's."""
        own, labels = self._data.train_features, self._data.train_labels
        rows = torch.cat([own.norm(dim=1, keepdim=True), own], dim=1)
        sums = rows.new_zeros(self._data.num_classes, rows.shape[1]).index_add_(0, labels, rows)
        usual = (sums / labels.bincount(minlength=len(sums))[:, None])[ids].mean(dim=0)
        length = features.norm(dim=1).mean() / usual[0]
        shift = (features.mean(dim=0) - usual[1:]).norm() / own.var(dim=0).sum().sqrt()
        shortest, longest = _LENGTHS
        # In a small batch the mean itself is off by chance.
        other = length < shortest or length > longest or shift > _SHIFT + len(ids) ** -0.5
        if length.isfinite() and other:
            warnings.warn(
                f"the features given to loss() are {length:.2g} times as long as the rows of these "
                f"classes in data=, and their mean is {shift:.0%} of the rows' spread away from "
                "theirs. Scale data= as the loop does: D³'s teacher and evaluate() see data=",
                D3Warning,
                stacklevel=7,
            )

    def _wrong_form(self, labels: Tensor, why: str) -> str:
        other = "class_ids" if self._form == "mapped" else "mapped"
        return (
            f"labels given to loss() ({int(labels.min())}..{int(labels.max())}) are not "
            f"{self._form} of the {len(self._data.seen_classes)} seen classes: {why}. Pass "
            f"attach(labels_are={other!r}) if that is their form; otherwise check that features "
            "and labels belong together, and that data= is scaled as the loop's features are"
        )


def _distinct_rows(data: GZSLData) -> Tensor:
    """Unit attribute rows (C, A), of which every seen one differs from all others."""
    rows, seen = F.normalize(data.attributes.float()), data.seen_classes
    close = _distances(rows[seen], rows) < 2 * _SAME  # no row can match both
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
