"""What takes longer than these trainings of a second, and has tests of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from torch import nn

from d3_adapters.fclswgan import trainer
from d3_plugin.evaluation.softmax import train_softmax
from d3_plugin.experiments import unchanged_training
from d3_plugin.report import page

AS_THEY_ARE = ("test_clusters", "test_compare", "test_data_inputs")
"""With runs of other processes, which no shortcut reaches; with warnings of a poor generator."""


def few_epochs(*data: Any, epochs: int, **options: Any) -> nn.Linear:
    return train_softmax(*data, epochs=min(epochs, 2), **options)


@pytest.fixture(autouse=True, scope="module")
def shortcuts(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "_pictures", lambda *_: ())
        # The proof in this process: another one would import all again.
        patch.setattr(unchanged_training, "_proved", unchanged_training.prove)
        if request.path.stem not in AS_THEY_ARE:
            patch.setattr(trainer, "train_softmax", few_epochs)
        yield
