"""Reads the data objects of the field's scripts (``DATA_LOADER`` and its relatives)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from d3_plugin.checks import some
from d3_plugin.data.assemble import renumber, warn_of_attributes
from d3_plugin.data.dataset import GZSLData
from d3_plugin.data.parts import PARTS, DataProblems, as_parts, as_rows
from d3_plugin.errors import HostError, Problems, warn

# Where a part may be: an attribute, or an entry of a dictionary, as in CADA-VAE.
_PLACES = {
    "train_features": ("train_feature", "data.train_seen.resnet_features"),
    "train_labels": ("train_label", "data.train_seen.labels"),
    "test_seen_features": ("test_seen_feature", "data.test_seen.resnet_features"),
    "test_seen_labels": ("test_seen_label", "data.test_seen.labels"),
    "test_unseen_features": ("test_unseen_feature", "data.test_unseen.resnet_features"),
    "test_unseen_labels": ("test_unseen_label", "data.test_unseen.labels"),
    "attributes": ("attribute", "aux_data"),
    "seen_classes": ("seenclasses",),
    "unseen_classes": ("unseenclasses", "novelclasses"),
}


def as_gzsl_data(data: Any) -> GZSLData:
    """A :class:`GZSLData` from itself or from a script's data object.

    Reads the attributes that f-CLSWGAN's ``DATA_LOADER`` and most code derived from it share:
    ``train_feature`` (N, D), ``train_label`` (N,), ``test_seen_feature``, ``test_seen_label``,
    ``test_unseen_feature``, ``test_unseen_label``, ``attribute`` (C, A), ``seenclasses`` (S,) and
    ``unseenclasses`` (U,); or CADA-VAE's ``data["train_seen"]["resnet_features"]`` and so on,
    ``aux_data`` and ``novelclasses``. Tensors or arrays of any numeric type, on any device.

    Labels are class ids, or positions among the classes of their part (``util.map_label``).
    Features are not changed: the object has scaled them already. Drops attribute rows of classes
    that are neither seen nor unseen, and unseen classes without test rows.

    Raises:
        HostError: parts are missing; names them all.
        DataError: values are not numeric, or contradict each other.

    Warns:
        D3Warning: unseen classes are dropped, classes are renumbered, or attributes cannot
            distinguish classes.
    """
    if isinstance(data, GZSLData):
        return data
    name = type(data).__name__
    found = {part: _find(data, places) for part, places in _PLACES.items()}
    missing = Problems(f"attach(data={name}) cannot be read")
    for part, (place, _) in found.items():
        missing.check(place != "", f"no attribute {' or '.join(map(repr, _PLACES[part]))}")
    if missing.found:
        missing.add("pass a d3_plugin.data.GZSLData instead, or add these attributes")
    if found["train_features"][0] and not found["test_seen_features"][0]:
        missing.add(
            "a loader in validation mode has no test rows of seen classes: load the data for "
            "testing, and use d3_plugin.data.pseudo_unseen for a validation problem"
        )
    missing.raise_as(HostError)

    places = {part: place for part, (place, _) in found.items()}
    problems = DataProblems(f"attach(data={name})", places)
    parts = as_parts({part: value for part, (_, value) in found.items()}, problems)
    for part, kind in PARTS.items():
        labels, classes = f"{part}_labels", f"{kind}_classes"
        if labels in parts and classes in parts:
            parts[labels] = _class_ids(parts[labels], parts[classes])
    if {"attributes", "seen_classes", "unseen_classes"} <= parts.keys():
        parts["attributes"] = _by_class(data, parts)
    notes = []
    if {"unseen_classes", "test_unseen_labels"} <= parts.keys():
        unseen = parts["unseen_classes"]
        has_rows = torch.isin(unseen, parts["test_unseen_labels"])
        if has_rows.any() and not has_rows.all():
            parts["unseen_classes"] = unseen[has_rows]
            left_out = some(unseen[~has_rows], "unseen classes")
            notes.append(f"{left_out} without test rows are left out")
    made = renumber(parts, problems)
    kept = torch.cat([parts["seen_classes"], parts["unseen_classes"]])
    if int(kept.max()) >= len(made.class_names):
        notes.append(
            f"{len(parts['attributes'])} attribute rows, but only {len(made.class_names)} classes "
            "have rows and are renumbered: pass labels to loss() as positions among the seen "
            "classes, with attach(labels_are='mapped')"
        )
    if notes:
        warn(f"attach(data={name}): {'; '.join(notes)}")
    warn_of_attributes(name, made)
    return GZSLData(name=name, class_names=made.class_names, **made.parts)


def label_form(data: Any) -> Literal["class_ids", "mapped"] | None:
    """Whether the labels of a script's data object are class ids, or positions among classes.

    None for :class:`GZSLData`, which says nothing about the script.
    """
    if data is None or isinstance(data, GZSLData):
        return None
    labels, classes = (
        torch.as_tensor(_find(data, _PLACES[part])[1]).cpu().reshape(-1)
        for part in ("train_labels", "seen_classes")
    )
    return "class_ids" if torch.isin(labels, classes).all() else "mapped"


def _find(data: Any, places: tuple[str, ...]) -> tuple[str, Any]:
    """The first place with a value, and the value; ``("", None)`` if there is none."""
    for place in places:
        value = data
        for key in place.split("."):
            value = value.get(key) if isinstance(value, Mapping) else getattr(value, key, None)
        if value is not None:
            return place, value
    return "", None


def _by_class(data: Any, parts: Mapping[str, Tensor]) -> Tensor:
    """Attribute rows by class id; GSMFlow's ``attribute`` is ``train_att`` above ``test_att``."""
    attributes = parts["attributes"]
    classes = torch.cat([parts["seen_classes"], parts["unseen_classes"]])
    if len(classes) != len(attributes):
        return attributes
    seen = len(parts["seen_classes"])
    pair = attributes[:seen], attributes[seen:]
    for name, rows in zip(("train_att", "test_att"), pair, strict=True):
        own = as_rows(name, getattr(data, name, None), Problems(name))
        if own is None or not torch.equal(own.to(rows), rows):
            return attributes
    by_class = attributes.new_zeros(int(classes.max()) + 1, attributes.shape[1])
    by_class[classes] = attributes
    return by_class


def _class_ids(labels: Tensor, classes: Tensor) -> Tensor:
    """Labels that are class ids, or positions among ``classes``, as class ids."""
    positions = ((labels >= 0) & (labels < len(classes))).all()
    return classes[labels] if positions and not torch.isin(labels, classes).all() else labels
