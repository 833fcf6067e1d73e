"""The default final classifier: fast, and as good as a logistic regression at any scale."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

import d3_plugin
from d3_plugin.data import GZSLData
from d3_plugin.evaluation.softmax import train_default
from tests.toys import PlainGenerator, linear_problem


def trained(features: Tensor, labels: Tensor) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        return train_default(features, labels, 6)


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_as_good_as_a_logistic_regression_at_any_scale(scale: float) -> None:
    data = linear_problem((0, 1, 2, 3, 4, 5), (6,), per_class=400, spread=0.15)
    rows, test = data.train_features[::2], data.train_features[1::2]
    labels, truth = data.train_labels[::2], data.train_labels[1::2]
    regression = LogisticRegression(C=100.0, max_iter=1000).fit(rows.numpy(), labels.numpy())
    expected = regression.score(test.numpy(), truth.numpy())
    found = trained(scale * rows, labels)(scale * test)
    assert 0.3 < expected < 0.98
    assert (found.argmax(dim=1) == truth).float().mean().item() > expected - 0.03
    torch.testing.assert_close(found, trained(rows, labels)(test), rtol=1e-2, atol=1e-2)


def test_it_repeats_itself() -> None:
    data = linear_problem((0, 1, 2, 3, 4, 5), (6,))
    made = [trained(data.train_features, data.train_labels)[0].weight for _ in range(2)]
    assert torch.equal(*made)


@pytest.mark.slow
def test_evaluate_takes_seconds_at_the_size_of_cub() -> None:
    """11,788 rows of 2048 features, 200 classes of which 50 are unseen, 200 synthetic rows each."""
    rng = np.random.default_rng(0)
    labels = np.arange(11_788) % 200
    centre = rng.random((200, 2048), dtype=np.float32)
    features = centre[labels] + 0.5 * rng.standard_normal((len(labels), 2048), dtype=np.float32)
    seen, held_out = labels < 150, np.arange(len(labels)) // 200 % 5 == 0
    data = GZSLData.from_arrays(
        features.clip(0),
        labels,
        rng.random((200, 312)),
        train=seen & ~held_out,
        test_seen=seen & held_out,
        unseen_classes=range(150, 200),
    ).scaled()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    started = time.process_time()  # whatever else runs on this machine
    d3_plugin.evaluate(generator=PlainGenerator(312, 312, 2048), data=data)
    seconds = time.process_time() - started
    torch.set_num_threads(threads)
    assert seconds < 20
