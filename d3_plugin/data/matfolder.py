"""The field's data format: a folder with ``res101.mat`` and ``att_splits.mat``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from d3_plugin.checks import describe
from d3_plugin.data.array_files import CLASS_NAMES, SETS, read, text
from d3_plugin.data.assemble import Rows, from_rows, warn_of_attributes
from d3_plugin.data.dataset import GZSLData
from d3_plugin.data.parts import DataProblems, as_ids, as_row_numbers, as_rows
from d3_plugin.data.validation import hold_out
from d3_plugin.errors import DataError, Problems, warn

_VALIDATION_SETS = ("train_loc", "val_loc")


def load_mat_folder(
    path: str | os.PathLike[str],
    *,
    attributes: str | os.PathLike[str] | None = None,
    validation: bool = False,
) -> GZSLData:
    """Load a data set in the format of Xian et al. (the "Proposed Split").

    Training rows are those of ``trainval_loc``. ``train_loc`` and ``val_loc`` are used only with
    ``validation``: in the published FLO.mat they contain test rows. Leaves out classes without rows
    in the split and seen classes without test rows; the others keep their order and get the ids
    ``0..C-1``.

    Args:
        path: folder with two MATLAB files, v5 or v7.3 (HDF5, needs the extra ``hdf5``), or with
            ``.npz`` or ``.h5`` files of the same names and keys; labels and indices are 1-based:

            - ``res101.mat``: ``features`` (D, N), ``labels`` N values in ``1..C``.
            - ``att_splits.mat`` (or else ``sent_splits.mat``): ``att`` (A, C); ``trainval_loc``,
              ``test_seen_loc`` and ``test_unseen_loc``, disjoint sets of values in ``1..N`` or
              masks of N values 0 and 1; optionally ``allclasses_names``, a cell array of C names,
              needed if C is above the highest label.
        attributes: another file to read ``att`` from: a path, or a name in the folder.
        validation: use the files' own validation split: the classes of ``val_loc`` play unseen, and
            20 % of the rows of each class of ``train_loc`` become ``test_seen``. For random splits
            see :func:`d3_plugin.data.pseudo_unseen`.

    Returns:
        The data set, named after the folder, with unscaled float32 features.

    Raises:
        DataError: something in the folder is unusable, or ``validation`` would use test rows;
            lists every problem.
        MissingExtraError: a file is HDF5 and h5py is not installed.

    Warns:
        D3Warning: seen classes are left out, class names cannot be read, attributes cannot
            distinguish classes, or ``train_loc`` or ``val_loc`` contain test rows or rows of unseen
            classes.

    Source: Xian, Lampert, Schiele, Akata, "Zero-Shot Learning — A Comprehensive Evaluation of the
    Good, the Bad and the Ugly", TPAMI 2019.
    """
    folder = Path(path)
    names = dict(SETS)
    if validation:
        names = {"train": "train_loc", "test_seen": "a part of train_loc", "test_unseen": "val_loc"}
    names |= {"attributes": "att", "class_names": CLASS_NAMES}
    problems = DataProblems(f"data folder {str(folder)!r}", names, first=1)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        problems.add(f"{what}; give the folder with res101.mat and att_splits.mat")
        problems.raise_as(DataError)

    rows_file, splits_file, *other = data_files(folder, attributes)
    needed = [*SETS.values(), *(_VALIDATION_SETS if validation else ())]
    optional = [CLASS_NAMES, *(() if validation else _VALIDATION_SETS)]
    raw = read(rows_file, ("features", "labels"), (), problems)
    raw |= read(splits_file, ([] if other else ["att"]) + needed, optional, problems)
    for file in other:
        raw |= read(file, ("att",), (), problems)
    features = _by_row(raw, "features", "(D, N), one column per sample", problems)
    vectors = _by_row(raw, "att", "(A, C), one column per class", problems)
    labels = as_ids("labels", raw["labels"], problems) if "labels" in raw else None
    labels = None if labels is None else labels - 1
    num_rows = {len(each) for each in (features, labels) if each is not None}
    numbers = {}
    for key in (*SETS.values(), *_VALIDATION_SETS):
        noted = problems if key in needed else DataProblems(key, first=1)  # it may be unusable
        if key in raw and (own := as_row_numbers(key, raw[key], num_rows, noted)) is not None:
            numbers[key] = own
    leaks = _leaks(numbers, labels)
    sets = {part: numbers[key] for part, key in SETS.items() if key in numbers}
    if validation:
        problems.found += [f"{leak}; these cannot be used for validation" for leak in leaks]
        sets = _validation_sets(numbers, labels)
    class_names = [] if vectors is None else _class_names(raw, len(vectors))
    made = from_rows(Rows(features, labels, vectors, sets, class_names), problems)
    if leaks:
        warn(
            f"{problems.subject}: {', '.join(leaks)}. This loader does not use train_loc and "
            "val_loc; code that validates on them leaks test rows"
        )
    name = folder.resolve().name + ("-val" if validation else "")
    warn_of_attributes(name, made)
    return GZSLData(name=name, class_names=made.class_names, **made.parts)


def data_files(folder: Path, attributes: str | os.PathLike[str] | None = None) -> list[Path]:
    """The files of a data folder: features, splits and, if given, attributes."""
    found = []
    for stems in (("res101",), ("att_splits", "sent_splits")):
        files = [folder / f"{stem}{end}" for stem in stems for end in (".mat", ".npz", ".h5")]
        found.append(next(filter(Path.is_file, files), files[0]))
    if attributes is not None:
        file = Path(attributes)
        found.append(file if file.is_file() else folder / file)
    return found


def _by_row(raw: Mapping[str, Any], key: str, shape: str, problems: Problems) -> Tensor | None:
    """MATLAB's columns as rows, one per sample or class."""
    matrix = as_rows(key, raw[key], problems, shape) if key in raw else None
    return None if matrix is None else matrix.T


def _class_names(raw: Mapping[str, Any], count: int) -> Sequence[str]:
    """The names of the classes; [] without names, and with a warning if they are unreadable."""
    if (value := raw.get(CLASS_NAMES)) is None:
        return []
    try:
        # A numeric matrix holds characters, one row per class.
        names = [text(cell) for cell in (value if value.dtype.kind in "ui" else value.ravel())]
        if len(names) == count:
            return names
        why = f"{len(names)} names for {count} classes"
    except (AttributeError, OverflowError, TypeError, ValueError):
        why = f"{describe(value)} holds no names; in MATLAB, save cellstr({CLASS_NAMES})"
    what = f"{CLASS_NAMES} is ignored and classes are numbered: {why}"
    warn(what)
    return []


def _leaks(numbers: Mapping[str, Tensor], labels: Tensor | None) -> list[str]:
    """Test rows, and further rows of unseen classes, in the sets for validation."""
    found = []
    unseen = numbers.get(SETS["test_unseen"], torch.empty(0, dtype=torch.int64))
    for key in filter(numbers.__contains__, _VALIDATION_SETS):
        rows = numbers[key]
        for part in ("test_seen", "test_unseen"):
            test = numbers.get(SETS[part], rows[:0])
            if shared := int(torch.isin(test, rows).sum()):
                found.append(f"{key} contains {shared} of the {len(test)} samples of {SETS[part]}")
        if labels is not None:
            rows, tests = (ids[(ids >= 0) & (ids < len(labels))] for ids in (rows, unseen))
            further = rows[~torch.isin(rows, tests)]
            if count := int(torch.isin(labels[further], labels[tests]).sum()):
                found.append(f"{key} contains {count} other samples of unseen classes")
    return found


def _validation_sets(numbers: Mapping[str, Tensor], labels: Tensor | None) -> dict[str, Tensor]:
    sets = {"test_unseen": numbers["val_loc"]} if "val_loc" in numbers else {}
    if "train_loc" in numbers and labels is not None:
        train = numbers["train_loc"]
        inside = train[(train >= 0) & (train < len(labels))]
        sets["train"], sets["test_seen"] = hold_out(labels, inside, seed=0)
    return sets
