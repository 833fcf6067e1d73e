"""Input that once got through, or out as another library's error: one case for each remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from d3_plugin import D3Error, HostError, InputError
from d3_plugin.__main__ import main
from d3_plugin.data import GZSLData, load, pseudo_unseen
from d3_plugin.data.host_data import as_gzsl_data
from d3_plugin.evaluation import (
    gzsl_metrics,
    harmonic_mean,
    ood_auroc,
    per_class_accuracy,
    seen_unseen_curve,
)

SCORES, LABELS = np.zeros((4, 2)), np.array([0, 0, 1, 1])
CLASSES = {"seen_classes": np.array([0]), "unseen_classes": np.array([1])}


def curve(scores: Any = SCORES, labels: Any = LABELS, **classes: Any) -> Any:
    return seen_unseen_curve(scores, labels, **{**CLASSES, **classes})


METRICS: dict[str, Callable[[], Any]] = {
    "a tensor": lambda: gzsl_metrics(torch.zeros(4, 2), LABELS, **CLASSES),
    "texts": lambda: curve(np.full((4, 2), "a")),
    "labels that are no ints": lambda: curve(labels=LABELS + 0.5),
    "a class without a column": lambda: curve(unseen_classes=np.array([2])),
    "a class twice": lambda: curve(unseen_classes=np.array([1, 1])),
    "no class": lambda: curve(unseen_classes=np.array([], dtype=int)),
    "fewer predictions": lambda: per_class_accuracy(LABELS, LABELS[1:], LABELS[1:3]),
    "accuracies in percent": lambda: harmonic_mean(50, 50),
    "a matrix of scores": lambda: ood_auroc(SCORES, SCORES[0]),
}


@pytest.mark.parametrize("case", METRICS)
def test_metrics(case: str) -> None:
    with pytest.raises(InputError):
        METRICS[case]()


PARTS: dict[str, dict[str, Any]] = {
    "words": {"train_features": [["a"]]},
    "labels between ints": {"train_labels": torch.full((80,), 0.5)},
    "classes as a matrix": {"seen_classes": torch.ones(2, 2, dtype=torch.int64)},
    "no width": {"attributes": torch.zeros(6, 0)},
    "names as a list": {"class_names": list("abcdef")},
    "another device": {"train_labels": torch.zeros(80, dtype=torch.int64, device="meta")},
}


@pytest.mark.parametrize("case", PARTS)
def test_data_set(toy_data: GZSLData, case: str) -> None:
    (name,) = PARTS[case]
    with pytest.raises(D3Error, match=name):
        replace(toy_data, **PARTS[case])


def test_data_of_nothing() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    rows = torch.zeros(0, 3)
    with pytest.raises(D3Error, match="seen"):
        GZSLData("none", rows, none, rows, none, rows, none, rows, none, none, ())


def test_script_data_that_are_no_numbers() -> None:
    names = ("test_seen", "test_unseen")
    loader = SimpleNamespace(train_feature="none", train_label=np.array([0.5]))
    for name in (*(f"{n}_feature" for n in names), *(f"{n}_label" for n in names)):
        setattr(loader, name, None)
    for name in ("attribute", "seenclasses", "unseenclasses"):
        setattr(loader, name, [[1.0], [2.0, 3.0]])
    with pytest.raises(HostError, match="test_seen_feature"):
        as_gzsl_data(loader)


def test_validation_cut(toy_data: GZSLData) -> None:
    with pytest.raises(InputError, match="fraction"):
        pseudo_unseen(toy_data, "half")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="GZSLData"):
        pseudo_unseen("digits")  # type: ignore[arg-type]


@pytest.mark.parametrize("spec", [None, 3, "x" * 5000, "a\0b", "digits-" + "9" * 5000])
def test_data_names(spec: Any) -> None:
    with pytest.raises(D3Error):
        load(spec)


def test_a_settings_file_beside_a_folder_without_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tuned.json").write_text('{"tuned": {"data": "digits-1"}}')
    given = ["--settings", str(tmp_path / "tuned.json"), "--data", str(tmp_path)]
    assert main(["ablate", *given, "--out", str(tmp_path / "out")]) == 2
    assert "res101.mat" in capsys.readouterr().err


def test_what_cannot_be_trained_is_not_timed(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--adapter", "fclswgan", "--host", "hidden=1000000000000000"]
    assert main(["bench", *given]) == 2
    assert "fclswgan" in capsys.readouterr().err
