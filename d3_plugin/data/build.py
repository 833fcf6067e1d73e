"""One way from arrays, wherever they come from, to a :class:`GZSLData`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from d3_plugin.data._checks import OWN_NAMES, PARTS, check_problem, check_sets, some
from d3_plugin.data.dataset import GZSLData
from d3_plugin.errors import DataError, Problems


def from_rows(
    name: str,
    features: Tensor | None,
    labels: Tensor | None,
    attributes: Tensor | None,
    sets: Mapping[str, Tensor],
    problems: Problems,
    *,
    names: Mapping[str, str] = OWN_NAMES,
    class_names: Sequence[str] = (),
    first: int = 0,
) -> GZSLData:
    """A problem from all rows and the row numbers of its three sets.

    Args:
        name: of the problem.
        features: (N, D) float32; None, as the next two, where it could not be read.
        labels: (N,) int64 class ids from 0.
        attributes: (C, A) float32.
        sets: (n,) int64 row numbers from 0, by ``train``, ``test_seen`` and ``test_unseen``.
        problems: what was wrong already.
        names: what messages call the sets, and ``attributes``.
        class_names: C names, or none.
        first: messages count classes and rows from here.

    Raises:
        DataError: lists every problem.
    """
    if features is not None and labels is not None and len(features) != len(labels):
        hint = "; transpose features" if features.shape[1] == len(labels) else ""
        problems.add(f"features holds {len(features)} samples, labels {len(labels)} values{hint}")
        features = None
    if labels is not None and len(low := labels[labels < 0]):
        problems.add(f"labels: {some(low + first, 'values')} below {first}; ids count from {first}")
    if attributes is not None and labels is not None and len(class_names) != len(attributes):
        # A transposed matrix with more rows than classes would load as nonsense.
        count = int(labels.max()) + 1 if len(labels) else 0
        if attributes.shape[1] == count != len(attributes):
            problems.add(
                f"{names['attributes']} holds {len(attributes)} vectors of length {count} for "
                f"{count} classes; transpose it"
            )
    given = features if labels is None else labels
    num_rows = 2**62 if given is None else len(given)
    check_sets({names[part]: index for part, index in sets.items()}, num_rows, first, problems)
    parts = {} if attributes is None else {"attributes": attributes}
    rows = {part: ids[(ids >= 0) & (ids < num_rows)] for part, ids in sets.items() if len(ids)}
    for part, index in rows.items():
        if features is not None:
            parts[f"{part}_features"] = features[index]
        if labels is not None:
            parts[f"{part}_labels"] = labels[index]
    for part in ("train", "test_unseen"):
        if f"{part}_labels" in parts:
            parts[f"{PARTS[part]}_classes"] = parts[f"{part}_labels"].unique()
    return from_parts(name, parts, problems, names, class_names, first, rows)


def from_parts(
    name: str,
    parts: Mapping[str, Tensor],
    problems: Problems,
    names: Mapping[str, str] = OWN_NAMES,
    class_names: Sequence[str] = (),
    first: int = 0,
    rows: Mapping[str, Tensor] | None = None,
) -> GZSLData:
    """A problem from its parts, with class ids of any kind.

    Classes that are neither seen nor unseen are dropped; the others keep their order and get the
    ids ``0..C-1``.

    Raises:
        DataError: lists every problem; see :func:`~d3_plugin.data._checks.check_problem`.
    """
    check_problem(parts, problems, names, first, rows)
    count = len(parts.get("attributes", class_names))
    if len(class_names) not in (0, count):
        problems.add(
            f"{names['class_names']} holds {len(class_names)} names for {count} classes; give one "
            "for each, or none"
        )
    problems.raise_as(DataError)
    classes = torch.cat([parts["seen_classes"], parts["unseen_classes"]]).sort().values
    new = dict(parts)
    for key in parts:
        if key.endswith("labels"):
            new[key] = torch.searchsorted(classes, parts[key])
        elif key.endswith("classes"):
            new[key] = torch.searchsorted(classes, parts[key].sort().values)
    new["attributes"] = parts["attributes"][classes]
    in_use = [class_names[c] if class_names else f"class {c + first}" for c in classes.tolist()]
    return GZSLData(name=name, class_names=tuple(in_use), **new)
