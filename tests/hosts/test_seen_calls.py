"""The driver of hosts names the inputs of a generator, and tells the loop's calls from D³'s."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import d3_plugin
from tests.toys import SMALL, toy_problem

sys.path.insert(0, str(Path(__file__).resolve().parent))
from seen_calls import Calls, describe, seen_class_check

DATA = toy_problem()
ROWS = DATA.attributes[DATA.seen_classes].repeat(100, 1)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (ROWS, "attributes"),
        (ROWS * 0.5, "attributes * 0.5"),
        (nn.functional.normalize(ROWS), "attributes, unit rows"),
        (torch.randn(400, 7, generator=torch.Generator().manual_seed(0)), "normal noise 7"),
        (torch.rand(400, 7, generator=torch.Generator().manual_seed(0)), "uniform noise 7"),
        (3 * torch.randn(400, 7, generator=torch.Generator().manual_seed(0)), "numbers 7"),
        (DATA.train_features * 9, "features"),
        (torch.arange(4), "integers"),
        (0.5, "float"),
    ],
)
def test_inputs_are_named(value: Tensor, words: str) -> None:
    assert describe(value, DATA) == words


class Prototypes(nn.Module):
    """Makes every row exactly from its attributes, if it gets them where the loop puts them."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 12)

    def forward(self, z: Tensor, att: Tensor) -> Tensor:
        return self.fc(att) + 0.01 * z[:, :1]


def test_calls_and_own_rows() -> None:
    generator = Prototypes()
    seen, labels = DATA.seen_classes, DATA.train_labels
    means = torch.stack([DATA.train_features[labels == c].mean(dim=0) for c in seen])
    weight = torch.linalg.lstsq(
        torch.cat((DATA.attributes[seen], torch.ones(len(means), 1)), 1), means
    ).solution
    with torch.no_grad():
        generator.fc.weight.copy_(weight[:5].T)
        generator.fc.bias.copy_(weight[5])
    optimizer = torch.optim.Adam(generator.parameters())
    d3 = d3_plugin.attach(generator=generator, optimizer=optimizer, data=DATA, settings=SMALL)
    calls = Calls(d3)
    generator(torch.randn(len(ROWS), 5), ROWS)
    calls.by_d3 = True
    d3.loss()
    assert calls.forms["loop"] == ["z: normal noise 5, att: attributes"]
    assert [form.rpartition(", ")[2] for form in calls.forms["d3"]] == ["att: attributes"]
    assert calls.own_rows == 1
    assert seen_class_check(d3) == {"train": 1, "eval": 1}
    generator.fc.weight.data.neg_()
    assert seen_class_check(d3)["eval"] < 0.7
