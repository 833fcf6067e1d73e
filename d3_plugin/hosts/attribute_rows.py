"""Class ids of a batch that comes without labels, from its attribute rows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d3_plugin.data import GZSLData
from d3_plugin.errors import HostError, Problems

# 1 - cosine up to which a row is a class's: lets half-precision buffers pass, and is 80 times below
# what separates the two nearest classes of AWA, APY, CUB, FLO and SUN.
_SAME = 1e-5


class AttributeRows:
    """Finds the class of attribute rows, whatever their length.

    TF-VAEGAN's loop, for one, has features and attributes in its buffers but no labels, and divides
    the attributes by their L2 norm. Every seen class must differ from all others by more than a
    positive factor.

    Args:
        data: the host's data.
        teacher: pre-trained on the seen classes.
    """

    def __init__(self, data: GZSLData, teacher: nn.Module) -> None:
        self._data, self._teacher = data, teacher
        self._class_rows: Tensor | None = None
        self._verified = False

    def class_ids(self, features: Tensor, attributes: Tensor) -> Tensor:
        """Class ids (B,) of attribute rows (B, A), on the data's device.

        Args:
            features: (B, D) of the same rows; the teacher must recognise those of the first batch.
            attributes: (B, A), as in the data or scaled row by row.

        Raises:
            HostError: a wrong shape, or two classes with the same attributes; for a batch on the
                CPU, and for the first one on a GPU, also rows that are no seen class's.
        """
        given, width = attributes.detach(), self._data.attributes.shape[1]
        if given.shape != (len(features), width) or not given.is_floating_point():
            raise HostError(
                f"loss() takes attributes ({len(features)}, {width}), one row for each row of "
                f"features, got {given.dtype} {tuple(given.shape)}"
            )
        if self._class_rows is None:
            self._class_rows = self._distinct_rows()
        rows = _unit(given.to(self._class_rows.device))
        cosine, class_ids = (rows @ self._class_rows.T).max(dim=1)
        first = not self._verified and len(class_ids) > 0
        if first or cosine.device.type == "cpu":
            self._check_matches(cosine, class_ids)
        if first:  # once: it costs passes of the teacher, and makes a GPU wait
            self._check_teacher(features, class_ids)
            self._verified = True
        return class_ids

    def _distinct_rows(self) -> Tensor:
        rows = _unit(self._data.attributes)
        seen = self._data.seen_classes
        close = rows[seen] @ rows.T > 1 - 4 * _SAME  # twice the distance: no row can match both
        close[torch.arange(len(seen)), seen] = False
        pairs = {tuple(sorted((int(seen[i]), int(c)))) for i, c in close.nonzero()}
        if pairs:
            raise HostError(
                "loss(attributes=...) cannot tell these pairs of classes apart, whose attributes "
                f"are the same up to a factor: {sorted(pairs)[:10]}. Pass labels= instead"
            )
        return rows

    def _check_matches(self, cosine: Tensor, class_ids: Tensor) -> None:
        matched = cosine >= 1 - _SAME
        unseen = matched & ~torch.isin(class_ids, self._data.seen_classes)
        lost, total = int((~matched).sum()), len(class_ids)
        problems = Problems("attributes given to loss()")
        problems.check(
            not lost,
            f"{lost} of {total} rows are no class's in the data given to attach. Pass rows of its "
            "attribute matrix as they are or divided by their norm, with nothing appended or "
            "changed; or pass labels= instead",
        )
        problems.check(
            not unseen.any(),
            f"{int(unseen.sum())} of {total} rows are unseen classes' "
            f"({class_ids[unseen].unique().tolist()[:10]}): pass the batch of real seen rows",
        )
        problems.raise_as(HostError)

    def _check_teacher(self, features: Tensor, class_ids: Tensor) -> None:
        """Rows and attributes belong together if the teacher does about as well as in training."""
        data = self._data
        some = torch.linspace(0, len(data.train_labels) - 1, 1000, device=class_ids.device).long()
        usual = self._agreement(data.train_features[some], data.train_labels[some])
        here = self._agreement(features, class_ids)
        if here < 0.5 * usual - len(class_ids) ** -0.5:  # the second term: chance in small batches
            raise HostError(
                f"the teacher agrees with {here:.0%} of the classes that attributes= gives the "
                f"features, but with {usual:.0%} on the training rows: are they the attributes of "
                "these very rows, and are the features scaled as the data's are?"
            )

    def _agreement(self, features: Tensor, class_ids: Tensor) -> float:
        with torch.no_grad():
            predicted = self._teacher(features.float())[0].argmax(dim=1)
        return float((self._data.seen_classes[predicted] == class_ids).float().mean())


def _unit(rows: Tensor) -> Tensor:
    # float64: neither autocast nor TF32 lowers the precision of its products.
    return F.normalize(rows.double(), dim=1)
