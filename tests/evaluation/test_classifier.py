"""The final classifier as an object: what ``evaluate()`` scores, here and in another process."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import d3_plugin
from d3_adapters.diffusion import DiffusionSettings, DiffusionTrainer
from d3_adapters.fclswgan import FCLSWGANSettings, FCLSWGANTrainer
from d3_adapters.tfvaegan import TFVAEGANSettings, TFVAEGANTrainer
from d3_plugin import D3, D3Warning, DataError, HostError, InputError, StorageError
from d3_plugin.data import GZSLData
from d3_plugin.evaluation import Classifier
from tests.toys import SMALL, ScriptHost, attach, linear_problem

TRAINERS = {
    "fclswgan": (FCLSWGANTrainer, FCLSWGANSettings),
    "tfvaegan": (TFVAEGANTrainer, TFVAEGANSettings),
    "diffusion": (DiffusionTrainer, DiffusionSettings),
}
CASES = [(host, kind) for host in ("tfvaegan", "script") for kind in ("host", "student", "both")]
CASES += [("fclswgan", "both"), ("diffusion", "both"), ("layers", "host")]
PREDICT = """
import sys
sys.modules["d3_adapters"] = sys.modules["sklearn"] = None  # not to be imported
import numpy as np
from d3_plugin.evaluation import Classifier
rows = np.load(sys.argv[1])
for path in sys.argv[2:]:
    np.save(path + ".npy", Classifier.load(path).scores(rows))
"""
pytestmark = pytest.mark.filterwarnings("ignore:.*far below D³'s student")  # hosts barely trained


def raw_problem() -> GZSLData:
    """A toy problem that is not in [0, 1]."""
    data = linear_problem((0, 2, 3, 5), (1, 4))
    parts = ("train_features", "test_seen_features", "test_unseen_features")
    return replace(data, **{part: 10 * getattr(data, part) for part in parts})


def rows_of(data: GZSLData) -> Tensor:
    """The test rows, in the order of ``Evaluation.scores``."""
    return torch.cat([data.test_seen_features, data.test_unseen_features])


def layers(features: Tensor, labels: Tensor, num_classes: int) -> nn.Module:
    """A script's own classifier, in eval mode as it is left; untrained."""
    norm = nn.BatchNorm1d(features.shape[1])
    net = nn.Sequential(norm, nn.Dropout(), nn.Linear(features.shape[1], 8), nn.ReLU())
    net.append(nn.Linear(8, num_classes)).append(nn.LogSoftmax(dim=1))
    return net.eval()


def trained(host: str) -> D3:
    """D³ after a few steps beside this host."""
    data = raw_problem().scaled()
    if host in TRAINERS:
        kind, settings = TRAINERS[host]
        trainer = kind(data, settings(steps=3, hidden=16, synthetic_per_class=20))
        d3 = d3_plugin.attach(trainer, settings=SMALL)
        trainer.fit()
        return d3
    script = ScriptHost(data)
    d3 = attach(
        script,
        train_classifier=layers if host == "layers" else None,
        transform_features=(lambda x: torch.cat([x, x.square()], 1)) if host == "layers" else None,
        synthetic_per_class=20,
    )
    script.run(3, d3)
    return d3


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    """Scores by ``evaluate()`` and of a process that has nothing but d3_plugin and raw rows."""
    folder, scores = tmp_path_factory.mktemp("classifiers"), {}
    (folder / "path").mkdir()
    (folder / "path" / "d3_plugin").symlink_to(Path(d3_plugin.__file__).resolve().parent)
    np.save(folder / "rows.npy", rows_of(raw_problem()).numpy())
    attached = {host: trained(host) for host in dict(CASES)}
    for host, kind in CASES:
        attached[host].classifier(final_classifier=kind).save(folder / f"{host}-{kind}")
        scores[host, kind] = attached[host].evaluate(final_classifier=kind).scores[0]
    paths = [str(folder / f"{host}-{kind}") for host, kind in CASES]
    subprocess.run(
        [sys.executable, "-c", PREDICT, str(folder / "rows.npy"), *paths],
        env={**os.environ, "PYTHONPATH": str(folder / "path"), "OMP_NUM_THREADS": "1"},
        cwd=folder,
        check=True,
        timeout=300,
    )
    return {(h, k): (scores[h, k], np.load(folder / f"{h}-{k}.npy")) for h, k in CASES}


@pytest.mark.parametrize(("host", "kind"), CASES)
def test_loaded_elsewhere_it_scores_the_same(
    saved: dict[tuple[str, str], Any], host: str, kind: str
) -> None:
    expected, found = saved[host, kind]
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return trained("fclswgan").classifier()


def test_answers_come_in_kind(classifier: Classifier) -> None:
    rows = rows_of(raw_problem())
    ids, shares = classifier.predict(rows), classifier.predict_proba(rows)
    assert ids.dtype == torch.int64
    assert shares.shape == (len(rows), 6)
    assert torch.equal(ids, shares.argmax(dim=1))
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(len(rows)))
    torch.testing.assert_close(classifier.scores(rows).softmax(dim=1), shares)
    for given in (rows.numpy(), rows.double().numpy(), rows.tolist()):
        for method in ("predict", "predict_proba", "scores"):
            found = getattr(classifier, method)(given)
            assert isinstance(found, np.ndarray)
            np.testing.assert_array_equal(found, getattr(classifier, method)(rows).numpy())
    assert classifier.classes_.tolist() == list(range(6))
    assert set(classifier.class_names_[ids.numpy()]) <= set("abcdef")
    assert classifier.predict(rows[:0]).shape == (0,)


def test_it_stays_as_it_is_when_the_host_trains_on() -> None:
    d3 = trained("tfvaegan")
    classifier, rows = d3.classifier(), rows_of(raw_problem())
    before = classifier.scores(rows)
    d3.host.trainer.fit()
    assert torch.equal(classifier.scores(rows), before)
    assert not torch.equal(d3.classifier().scores(rows), before)


def test_the_host_does_not_notice(toy_data: GZSLData) -> None:
    host = ScriptHost(toy_data)
    d3 = attach(host)
    host.run(2, d3)
    before, traces = host.state(), host.traces()
    d3.classifier()
    assert traces == host.traces()
    assert all(torch.equal(value, before[name]) for name, value in host.state().items())


def test_it_scales_rows_as_the_data_were_scaled(classifier: Classifier) -> None:
    raw, scaled = rows_of(raw_problem()), rows_of(raw_problem().scaled())
    assert classifier.scales
    torch.testing.assert_close(classifier.scores(raw), classifier.scores(scaled, scaled=True))
    with pytest.warns(D3Warning, match="scaled already: pass scaled=True"):
        classifier.predict(scaled)
    with pytest.warns(D3Warning, match="unscaled: pass scaled=False"):
        classifier.predict(raw, scaled=True)


def test_scaling_twice_is_one_scaling() -> None:
    raw = raw_problem()
    twice = raw.scaled().scaled()
    factor, offset = twice.scaling
    torch.testing.assert_close(raw.train_features * factor + offset, twice.train_features)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (np.zeros((3, 11)), r"\(3, 11\)"),
        (np.zeros(12), r"\(12,\)"),
        (np.full((2, 12), np.nan), "not finite"),
        (torch.full((2, 12), torch.inf), "not finite"),
        ("rows.npy", "str"),
        (None, r"not finite|NoneType"),
        (np.array([["a"] * 12]), "ndarray"),
    ],
)
def test_wrong_rows_are_refused(classifier: Classifier, rows: Any, found: str) -> None:
    with pytest.raises(InputError, match=rf"\(N, 12\).*got .*({found})"):
        classifier.predict(rows)


@pytest.mark.parametrize("content", [None, b"", b"GIF89a", "state", "steps", "width"])
def test_other_files_are_refused(classifier: Classifier, tmp_path: Path, content: Any) -> None:
    path = tmp_path / "classifier.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "state":
        torch.save({"generator": torch.zeros(3)}, path)
    elif content is not None:
        classifier.save(path)
        state = torch.load(path, weights_only=True)
        if content == "steps":  # not arithmetic
            state["function"]["steps"][0] = ("a", "aten.from_file.default", ["/etc/passwd"], {})
        else:
            state["center"] = state["center"][:5]
        torch.save(state, path)
    with pytest.raises(DataError, match=r"classifier.pt is no classifier of Classifier.save"):
        Classifier.load(path)


def test_what_cannot_be_saved_says_which_and_why(toy_data: GZSLData, tmp_path: Path) -> None:
    """It predicts in this process nevertheless."""

    def with_numpy(features: Tensor, labels: Tensor, num_classes: int) -> Any:
        weight = np.eye(features.shape[1], num_classes, dtype=np.float32)
        return lambda rows: torch.from_numpy(rows.numpy() @ weight)

    host = ScriptHost(toy_data)
    parts = {"generator": host.net_g, "data": toy_data, "train_classifier": with_numpy}
    classifier = d3_plugin.classifier(**parts)
    expected = d3_plugin.evaluate(**parts).scores[0]
    np.testing.assert_array_equal(classifier.scores(rows_of(toy_data), scaled=True), expected)
    with pytest.raises(HostError, match=r"train_classifier=with_numpy cannot.*numpy.*PyTorch"):
        classifier.save(tmp_path / "classifier.pt")
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written(classifier: Classifier, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        classifier.save(tmp_path / "missing" / "classifier.pt")
