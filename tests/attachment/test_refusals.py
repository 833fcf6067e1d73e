"""Input that once got through, or out as another library's error: one case for each remedy."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from d3_plugin import (
    D3Error,
    D3Settings,
    DataError,
    HostError,
    ID2SDLoss,
    InputError,
    O2DBDLoss,
    StorageError,
    attach,
)
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
from d3_plugin.experiments.checkpoint import load_checkpoint, save_checkpoint
from d3_plugin.functional import id_confidence, id_score, label_space_kl, relation_loss
from tests.script_host import ScriptHost

SEEN = torch.tensor([0, 2])
TEACHER, STUDENT, IDS = torch.zeros(4, 2), torch.zeros(4, 3), torch.tensor([0, 0, 2, 2])
SCORES, LABELS = np.zeros((4, 2)), np.array([0, 0, 1, 1])
CLASSES = {"seen_classes": np.array([0]), "unseen_classes": np.array([1])}


def curve(scores: Any = SCORES, labels: Any = LABELS, **classes: Any) -> Any:
    return seen_unseen_curve(scores, labels, **{**CLASSES, **classes})


LOSSES: dict[str, tuple[Callable[[], Any], str]] = {
    "a list": (lambda: id_score([[1.0]]), "teacher_logits must be a tensor, got list"),
    "sparse": (lambda: id_score(TEACHER.to_sparse()), "must be dense"),
    "8-bit floats": (lambda: id_score(TEACHER.to(torch.float8_e4m3fn)), "call .float()"),
    "another device": (
        lambda: O2DBDLoss(3, SEEN)(TEACHER, STUDENT, IDS.to("meta")),
        "all must be on one device, got {'rows': 'cpu', 'labels': 'meta'}",
    ),
    "classes without a column": (
        lambda: label_space_kl(TEACHER, STUDENT, torch.tensor([0, 3])),
        r"seen_classes must be class ids 0..2, got 0..3",
    ),
    "classes that are no ids": (
        lambda: label_space_kl(TEACHER, STUDENT, torch.tensor([0.0, 2.5])),
        "seen_classes must be integer, got torch.float32",
    ),
    "same is no tensor": (lambda: relation_loss(TEACHER, TEACHER, None), "same must be a tensor"),
    "two weights": (
        lambda: id_confidence(torch.zeros(4), torch.zeros(3), torch.zeros(1)),
        "tensors of one element",
    ),
    "a text for a number": (lambda: id_score(TEACHER, temperature="1"), "got '1'"),
    "a number beyond floats": (lambda: id_score(TEACHER, temperature=10**400), "above 0 and fin"),
    "a list for a choice": (lambda: id_score(TEACHER, ["energy"]), "kind is one of"),
    "weights that are texts": (lambda: ID2SDLoss(SEEN, kl_weight="1"), "weights must be finite"),
    "a width that is not whole": (lambda: O2DBDLoss(2.5, SEEN), "num_classes must be a whole"),
    "a weight that is none": (lambda: O2DBDLoss(3, SEEN, initial_weight=None), "must be numbers"),
    "an array for a choice": (lambda: D3Settings(score=np.zeros(2)), "score must be one of"),
}


@pytest.mark.parametrize("case", LOSSES)
def test_losses(case: str) -> None:
    call, message = LOSSES[case]
    with pytest.raises(InputError) as caught:
        call()
    assert message in str(caught.value)


def test_labels_of_every_integer_type() -> None:
    """PyTorch compares and sorts few of the unsigned types."""
    for dtype in (torch.uint8, torch.uint16, torch.uint32, torch.int8):
        seen, labels = SEEN.to(dtype), IDS.to(dtype)
        for target in ("domain", "class"):
            O2DBDLoss(3, seen, target=target)(TEACHER, STUDENT, labels)
        ID2SDLoss(seen)(TEACHER, STUDENT, TEACHER, TEACHER, labels)


METRICS: dict[str, tuple[Callable[[], Any], str]] = {
    "a tensor": (lambda: gzsl_metrics(torch.zeros(4, 2), LABELS, **CLASSES), "got a tensor (4, 2)"),
    "texts": (
        lambda: curve(np.full((4, 2), "a")),
        "a NumPy array (N, C) of numbers; got an array (4, 2) of <U1",
    ),
    "labels that are not whole": (
        lambda: curve(labels=LABELS + 0.5),
        "(N) of class ids; got an array",
    ),
    "a class without a column": (lambda: curve(unseen_classes=np.array([2])), "have no column"),
    "a class twice": (lambda: curve(unseen_classes=np.array([1, 1])), "a class is named twice"),
    "no class": (lambda: curve(unseen_classes=np.array([], dtype=int)), "unseen_classes is empty"),
    "fewer predictions": (
        lambda: per_class_accuracy(LABELS, LABELS[1:], LABELS[1:3]),
        "predicted is (3,), expected (4,)",
    ),
    "accuracies in percent": (lambda: harmonic_mean(50, 50), "lie in 0..1, got 50"),
    "a matrix of scores": (
        lambda: ood_auroc(SCORES, SCORES[0]),
        "a NumPy array (N) of numbers; got an array (4, 2)",
    ),
}


@pytest.mark.parametrize("case", METRICS)
def test_metrics(case: str) -> None:
    call, message = METRICS[case]
    with pytest.raises(InputError) as caught:
        call()
    assert message in str(caught.value)


PARTS: dict[str, tuple[dict[str, Any], str]] = {
    "a text": ({"train_features": "rows"}, "train_features is a str; expected a dense"),
    "complex": ({"attributes": torch.ones(6, 5) * 1j}, "(6, 5) of torch.complex64"),
    "labels between classes": (
        {"train_labels": torch.full((80,), 0.5)},
        "train_labels: 80 values (0.5, 0.5",
    ),
    "classes as a matrix": ({"seen_classes": torch.ones(2, 2, dtype=torch.int64)}, "(2, 2)"),
    "no width": ({"attributes": torch.zeros(6, 0)}, "expected a dense numeric matrix (N, K)"),
    "names as a list": ({"class_names": list("abcdef")}, "must be a tuple of str, got list"),
    "another device": (
        {"train_labels": torch.zeros(80, dtype=torch.int64, device="meta")},
        "train_labels is a tensor (80,) of torch.int64 on meta; expected a vector",
    ),
}


@pytest.mark.parametrize("case", PARTS)
def test_data_set(toy_data: GZSLData, case: str) -> None:
    changes, message = PARTS[case]
    with pytest.raises(D3Error) as caught:
        replace(toy_data, **changes)
    assert message in str(caught.value)


def test_data_of_nothing() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    rows = torch.zeros(0, 3)
    with pytest.raises(D3Error, match="expected a dense numeric matrix"):
        GZSLData("none", rows, none, rows, none, rows, none, rows, none, none, ())


def test_script_data_that_are_no_numbers() -> None:
    names = ("test_seen", "test_unseen")
    loader = SimpleNamespace(train_feature="none", train_label=np.array([0.5]))
    for name in (*(f"{n}_feature" for n in names), *(f"{n}_label" for n in names)):
        setattr(loader, name, "none")
    for name in ("attribute", "seenclasses", "unseenclasses"):
        setattr(loader, name, [[1.0], [2.0, 3.0]])
    with pytest.raises(DataError) as caught:
        as_gzsl_data(loader)
    assert "train_label: 1 values (0.5) that are not integers" in str(caught.value)
    assert "train_feature is a str; expected a dense numeric matrix" in str(caught.value)


def test_validation_cut(toy_data: GZSLData) -> None:
    with pytest.raises(InputError, match="fraction must be between 0 and 1, exclusive, got 'half'"):
        pseudo_unseen(toy_data, "half")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must be a GZSLData, got str"):
        pseudo_unseen("digits")  # type: ignore[arg-type]


@pytest.mark.parametrize("spec", [None, 3, "x" * 5000, "a\0b", "digits-" + "9" * 5000])
def test_data_names(spec: Any) -> None:
    with pytest.raises(D3Error, match="data set"):
        load(spec)


@pytest.fixture
def host(toy_data: GZSLData) -> ScriptHost:
    return ScriptHost(toy_data)


def test_attach_lists_every_wrong_option(host: ScriptHost) -> None:
    with pytest.raises(InputError) as caught:
        attach(
            generator=host.net_g,
            optimizer=host.optimizer_g,
            data=host.data,
            settings={"weight": 1},  # type: ignore[arg-type]
            seed=-1,
            noise_dim="5",  # type: ignore[arg-type]
            modules=3,  # type: ignore[arg-type]
            synthesize="netG",  # type: ignore[arg-type]
        )
    message = str(caught.value)
    assert "5 problems" in message
    for option in ("settings", "seed", "noise_dim", "modules", "synthesize"):
        assert f"- {option} must be" in message


def test_a_generator_without_parameters(host: ScriptHost) -> None:
    with pytest.raises(HostError, match="must be a module with parameters"):
        attach(generator=torch.nn.Module(), optimizer=host.optimizer_g, data=host.data)


def test_plugins_that_are_no_list(host: ScriptHost) -> None:
    with pytest.raises(D3Error, match="plugins must be a list"):
        attach(generator=host.net_g, optimizer=host.optimizer_g, data=host.data, plugins=3)  # type: ignore[arg-type]


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
    assert "fclswgan cannot train so (RuntimeError" in capsys.readouterr().err


def test_checkpoints(tmp_path: Path) -> None:
    cpu, trainer = torch.device("cpu"), torch.nn.Linear(2, 2)
    with pytest.raises(InputError, match="object has no state_dict"):
        save_checkpoint(tmp_path / "a.pt", object(), None, step=1, device=cpu)
    with pytest.raises(InputError, match="step must be a whole number, at least 0; got -1"):
        save_checkpoint(tmp_path / "a.pt", trainer, None, step=-1, device=cpu)
    with pytest.raises(StorageError, match="null"):
        save_checkpoint(tmp_path / "a\0.pt", trainer, None, step=1, device=cpu)
    (tmp_path / "a.pt").mkdir()
    with pytest.raises(DataError, match="is not a whole checkpoint"):
        load_checkpoint(tmp_path / "a.pt", trainer, None, device=cpu)


def test_flags_that_are_texts(host: ScriptHost) -> None:
    """Which Python takes for true, "no" too."""
    with pytest.raises(InputError, match="gather must be True or False, got 'no'"):
        attach(generator=host.net_g, optimizer=host.optimizer_g, data=host.data, gather="no")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="gather must be True or False, got 1"):
        ID2SDLoss(SEEN, gather=1)  # type: ignore[arg-type]


def test_a_damaged_optimiser(host: ScriptHost) -> None:
    parts = {"generator": host.net_g, "optimizer": host.optimizer_g, "data": host.data}
    d3 = attach(**parts, settings=D3Settings(embedding_dim=4, teacher_epochs=1))
    d3.loss()
    state = copy.deepcopy(d3.state_dict())
    state["optimizer"]["state"][0]["exp_avg"] = torch.zeros(1)
    with pytest.raises(HostError, match="nothing was changed"):
        d3.load_state_dict(state)
    d3.loss()
