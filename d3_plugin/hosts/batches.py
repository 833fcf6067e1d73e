"""The real rows and labels that a host's own loop hands over."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from d3_plugin.checks import check_choice, is_integer
from d3_plugin.data import GZSLData
from d3_plugin.errors import HostError
from d3_plugin.hosts.attribute_rows import AttributeRows

LabelForm = Literal["class_ids", "mapped"]


class HostBatches:
    """Reads what a host hands to ``loss()``: features, and what says their classes.

    Args:
        data: the host's data.
        teacher: pre-trained on the seen classes.
        labels_are: see :class:`HostLabels`.
    """

    def __init__(self, data: GZSLData, teacher: nn.Module, labels_are: LabelForm) -> None:
        self._data = data
        self._labels = HostLabels(data, teacher, labels_are)
        self._attributes = AttributeRows(data, teacher)

    def read(
        self, features: Tensor | None, labels: Tensor | None, attributes: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Rows (B, D) and their class ids (B,), on the data's device.

        Raises:
            HostError: a combination that does not say the classes, or what
                :class:`HostLabels` and :class:`~d3_plugin.hosts.attribute_rows.AttributeRows`
                refuse.
        """
        given = {"features": features, "labels": labels, "attributes": attributes}
        given = {name: value for name, value in given.items() if value is not None}
        if features is None or (labels is None) == (attributes is None):
            raise HostError(
                "loss() takes features and labels together, or features and attributes, or "
                f"nothing, when D³ draws its own real rows; got {' and '.join(given)}"
            )
        for name, value in given.items():
            if not isinstance(value, Tensor) or value.layout != torch.strided:
                kind = value.layout if isinstance(value, Tensor) else type(value).__name__
                raise HostError(f"loss() takes dense tensors, got {kind} as {name}")
        features = features.detach()
        if features.ndim != 2 or features.shape[1] != self._data.feature_dim:
            raise HostError(
                f"loss() takes features (B, {self._data.feature_dim}), got {tuple(features.shape)}"
            )
        features = features.to(self._data.train_features.device)
        if labels is not None:
            return features, self._labels.class_ids(features, labels)
        if attributes is None:  # for the type checker; refused above
            raise HostError("labels or attributes are needed")
        return features, self._attributes.class_ids(features, attributes)


class HostLabels:
    """Turns a host's labels into class ids, and notices when they are of the other form.

    The field's scripts use both: f-CLSWGAN, CE-GZSL and FREE map labels to positions among the
    seen classes, others keep the class ids of the data set. Both are small integers, so the first
    batch is held against the teacher, which knows these very rows.

    Args:
        data: the host's data.
        teacher: pre-trained on the seen classes.
        labels_are: ``class_ids``, 0..C-1 as in the data, or ``mapped``, 0..S-1: positions among
            the sorted seen classes.
    """

    def __init__(self, data: GZSLData, teacher: nn.Module, labels_are: LabelForm) -> None:
        check_choice("attach", "labels_are", labels_are, get_args(LabelForm))
        self._data, self._teacher, self._form = data, teacher, labels_are
        self._verified = False

    def class_ids(self, features: Tensor, labels: Tensor) -> Tensor:
        """Class ids (B,) on the data's device, for features (B, D) and labels (B,).

        Raises:
            HostError: wrong shapes or dtypes; in the first batch also labels that are not of seen
                classes, or that fit the other form.
        """
        labels = labels.detach()
        if labels.shape != features.shape[:1] or not is_integer(labels):
            raise HostError(
                f"loss() takes features (B, {self._data.feature_dim}) and integer labels (B,), got "
                f"{tuple(features.shape)} and {labels.dtype} {tuple(labels.shape)}"
            )
        device = self._data.train_labels.device
        on_cpu = labels.device.type == device.type == "cpu"
        labels = labels.to(device).long()
        if not self._verified and len(labels):
            self._verify(features, labels)
            self._verified = True  # once: it costs a pass of the teacher, and makes a GPU wait
        elif on_cpu and not self._possible(labels):
            raise HostError(
                f"labels given to loss() are not {self._form} of seen classes: {labels.tolist()}"
            )
        return self._data.seen_classes[labels] if self._form == "mapped" else labels

    def _possible(self, labels: Tensor) -> bool:
        seen = self._data.seen_classes
        if self._form == "mapped":
            return bool(((labels >= 0) & (labels < len(seen))).all())
        return bool(torch.isin(labels, seen).all())

    def _verify(self, features: Tensor, labels: Tensor) -> None:
        seen = self._data.seen_classes
        with torch.no_grad():
            predicted = self._teacher(features.float())[0].argmax(dim=1)
        agrees = {
            "mapped": (predicted == labels).float().mean().item(),
            "class_ids": (seen[predicted] == labels).float().mean().item(),
        }
        other: LabelForm = "class_ids" if self._form == "mapped" else "mapped"
        if self._possible(labels) and agrees[self._form] >= 0.5 * agrees[other]:
            return
        values = f"{int(labels.min())}..{int(labels.max())}"
        raise HostError(
            f"the labels given to loss() ({values}) are not {self._form} of the "
            f"{len(seen)} seen classes: the teacher agrees with {agrees[self._form]:.0%} of them "
            f"so read, and with {agrees[other]:.0%} read as {other}. "
            f"Pass attach(labels_are={other!r}) if they are that, or the labels of these features."
        )
