"""Reads the data objects of the field's scripts (``DATA_LOADER`` and its relatives)."""

from __future__ import annotations

from typing import Any

from d3_plugin.data._checks import as_parts
from d3_plugin.data.build import from_parts
from d3_plugin.data.dataset import GZSLData
from d3_plugin.errors import HostError, Problems

_NAMES = {
    "train_features": "train_feature",
    "train_labels": "train_label",
    "test_seen_features": "test_seen_feature",
    "test_seen_labels": "test_seen_label",
    "test_unseen_features": "test_unseen_feature",
    "test_unseen_labels": "test_unseen_label",
    "attributes": "attribute",
    "seen_classes": "seenclasses",
    "unseen_classes": "unseenclasses",
}


def as_gzsl_data(data: Any) -> GZSLData:
    """A :class:`GZSLData` from itself or from a script's data object.

    Read are the attributes that f-CLSWGAN's ``DATA_LOADER`` and most code derived from it share:
    ``train_feature`` (N, D), ``train_label`` (N,) class ids, ``test_seen_feature``,
    ``test_seen_label``, ``test_unseen_feature``, ``test_unseen_label``, ``attribute`` (C, A),
    ``seenclasses`` (S,) and ``unseenclasses`` (U,). Tensors or NumPy arrays of any numeric type, on
    any device. Features are taken as they are: the object has scaled them already.

    Raises:
        HostError: attributes are missing; names them all.
        DataError: their values are no numbers, or contradict each other.
    """
    if isinstance(data, GZSLData):
        return data
    problems = Problems(f"attach(data={type(data).__name__}) is not what D³ reads")
    for name in _NAMES.values():
        problems.check(hasattr(data, name), f"no attribute {name!r}")
    if problems.found:
        problems.add("pass a d3_plugin.data.GZSLData instead, or add these attributes")
    problems.raise_as(HostError)
    problems = Problems(f"attach(data={type(data).__name__})")
    parts = as_parts({name: getattr(data, name) for name in _NAMES.values()}, problems)
    ours = {own: parts[name] for own, name in _NAMES.items() if name in parts}
    return from_parts(type(data).__name__, ours, problems)
