"""The real rows and labels that a host's own loop hands over."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from d3_plugin.checks import check_choice
from d3_plugin.data import GZSLData
from d3_plugin.errors import HostError

LabelForm = Literal["class_ids", "mapped"]


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

    def checked(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (B, D) and their class ids (B,), on the data's device.

        Raises:
            HostError: wrong shapes or dtypes; in the first batch also labels that are not of seen
                classes, or that fit the other form.
        """
        if not isinstance(features, Tensor) or not isinstance(labels, Tensor):
            raise HostError(
                f"loss() takes tensors, got {type(features).__name__} and {type(labels).__name__}"
            )
        features, labels = features.detach(), labels.detach()
        if (
            features.ndim != 2
            or features.shape[1] != self._data.feature_dim
            or labels.shape != features.shape[:1]
            or labels.is_floating_point()
        ):
            raise HostError(
                f"loss() takes features (B, {self._data.feature_dim}) and integer labels (B,), got "
                f"{tuple(features.shape)} and {labels.dtype} {tuple(labels.shape)}"
            )
        device = self._data.train_labels.device
        on_cpu = labels.device.type == device.type == "cpu"
        features, labels = features.to(device), labels.to(device).long()
        if not self._verified and len(labels):
            self._verify(features, labels)
            self._verified = True  # once: it costs a pass of the teacher, and makes a GPU wait
        elif on_cpu and not self._possible(labels):
            raise HostError(
                f"labels given to loss() are not {self._form} of seen classes: {labels.tolist()}"
            )
        return features, self._class_ids(labels)

    def _class_ids(self, labels: Tensor) -> Tensor:
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
