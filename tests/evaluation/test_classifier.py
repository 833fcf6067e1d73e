"""The final classifier as an object: what ``evaluate()`` scores, here and in another process."""

from __future__ import annotations

import copy
import errno
import os
import pickle
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
from d3_plugin import D3, D3Warning, HostError, InputError, StorageError
from d3_plugin.data import GZSLData
from d3_plugin.evaluation import Classifier
from tests.toys import SMALL, ScriptHost, attach, linear_problem

TRAINERS = {
    "fclswgan": (FCLSWGANTrainer, FCLSWGANSettings),
    "tfvaegan": (TFVAEGANTrainer, TFVAEGANSettings),
    "diffusion": (DiffusionTrainer, DiffusionSettings),
}
CASES = [("script", kind) for kind in ("host", "student", "both")]
CASES += [("tfvaegan", "both"), ("fclswgan", "both"), ("diffusion", "both"), ("layers", "host")]
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


def test_loaded_elsewhere_it_scores_the_same(tmp_path: Path) -> None:
    """As ``evaluate()``, in a process that has nothing but d3_plugin and raw rows."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "d3_plugin").symlink_to(Path(d3_plugin.__file__).resolve().parent)
    np.save(tmp_path / "rows.npy", rows_of(raw_problem()).numpy())
    attached = {host: trained(host) for host in dict(CASES)}
    paths, scores = [str(tmp_path / f"{host}-{kind}") for host, kind in CASES], []
    for (host, kind), path in zip(CASES, paths, strict=True):
        attached[host].classifier(final_classifier=kind).save(path)
        scores.append(attached[host].evaluate(final_classifier=kind).scores[0])
    subprocess.run(
        [sys.executable, "-c", PREDICT, str(tmp_path / "rows.npy"), *paths],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "path"), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        check=True,
        timeout=300,
    )
    for case, path, expected in zip(CASES, paths, scores, strict=True):
        assert np.ptp(expected) > 0.1, case
        np.testing.assert_allclose(
            np.load(f"{path}.npy"), expected, rtol=1e-6, atol=1e-6, err_msg=str(case)
        )


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
        (np.array([["a"] * 12]), "<U1"),
        (np.array([["1"] * 12]), "<U1"),
        (np.zeros((2, 12), complex), "complex"),
        (np.ma.masked_equal(np.eye(12), 1), "array"),
        (np.zeros((2, 12), "datetime64[s]"), "datetime64"),
        (np.array([[None] * 12]), "not finite"),
        (np.array([[1e300] * 12]), "not finite"),
        (torch.zeros(2, 12).to_sparse(), "sparse"),
        (torch.zeros(2, 12, device="meta"), "meta"),
        (torch.zeros(2, 12, dtype=torch.complex64), "complex"),
        (torch.quantize_per_tensor(torch.zeros(2, 12), 1.0, 0, torch.qint8), "qint8"),
    ],
)
def test_wrong_rows_are_refused(classifier: Classifier, rows: Any, found: str) -> None:
    with pytest.raises(InputError, match=rf"\(N, 12\).*got .*({found})"):
        classifier.predict(rows)


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
    for use in (lambda: classifier.save(tmp_path / "c"), lambda: pickle.dumps(classifier)):
        with pytest.raises(HostError, match=r"train_classifier=with_numpy cannot.*numpy.*PyTorch"):
            use()
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "classifier.d3"
    classifier.save(path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"cannot write .*No space left"):
        classifier.save(path)
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [before]


ROWS = rows_of(raw_problem())
KINDS = {
    "float64": ROWS.double(),
    "with gradient": ROWS.clone().requires_grad_(),
    "strided": ROWS.repeat_interleave(2, dim=1)[:, ::2],
    "expanded": ROWS[:1].expand(5, -1),
    "whole": ROWS.round().long(),
    "array": ROWS.numpy(),
    "big-endian": ROWS.numpy().astype(">f8"),
    "Fortran": np.asfortranarray(ROWS.numpy()),
    "objects": ROWS.numpy().astype(object),
    "lists": ROWS.tolist(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_every_kind(classifier: Classifier, kind: str) -> None:
    given = KINDS[kind]
    before = copy.deepcopy(given) if not isinstance(given, Tensor) else given.detach().clone()
    if isinstance(given, np.ndarray):
        given.flags.writeable = False
    dense = torch.as_tensor(np.asarray(before).astype(np.float32))
    expected = classifier.scores(dense)
    found = classifier.scores(given)
    assert isinstance(found, Tensor) == isinstance(given, Tensor)
    np.testing.assert_array_equal(np.asarray(found), expected.numpy())
    kept = given.detach() if isinstance(given, Tensor) else given
    np.testing.assert_array_equal(np.asarray(kept), np.asarray(before))


def test_copies_and_pickles_answer_the_same(classifier: Classifier) -> None:
    for made in (copy.copy(classifier), copy.deepcopy(classifier)):
        assert torch.equal(made.scores(ROWS), classifier.scores(ROWS))
    assert torch.equal(pickle.loads(pickle.dumps(classifier)).scores(ROWS), classifier.scores(ROWS))


@pytest.mark.parametrize("factor", [0.004, 0.2, 3.0, 60.0])
def test_rows_of_another_scale_are_pointed_out(factor: float) -> None:
    """A script scaled the rows by itself, so the classifier cannot."""
    data = linear_problem((0, 2, 3, 5), (1, 4))
    host = ScriptHost(data)
    classifier = d3_plugin.classifier(generator=host.net_g, data=data)
    classifier.predict(data.test_unseen_features)  # no warning
    classifier.predict(data.test_unseen_features[:1])
    with pytest.warns(D3Warning, match=rf"{factor:.2g}\d* times as long as the training rows"):
        classifier.predict(factor * data.train_features)
    low, high = data.train_features.min(), data.train_features.max()
    assert f"in {low:.3g} to {high:.3g}" in repr(classifier)
