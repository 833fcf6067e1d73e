"""The student's semantic start."""

from __future__ import annotations

import pytest
import torch

from d3_plugin.distillation.networks import EmbeddingClassifier

SEEN, UNSEEN = torch.tensor([0, 2, 3, 5, 6]), torch.tensor([1, 4])


@pytest.mark.parametrize("level", [0.0, 1e4])
@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_the_level_and_the_unit_of_the_attributes_do_not_matter(level: float, unit: float) -> None:
    """Years such as 2024 or percent predict the same weights as values around 0."""
    stream = torch.Generator().manual_seed(0)
    attributes = torch.randn(7, 2, generator=stream)
    weights = attributes @ torch.randn(2, 3, generator=stream) + 1
    student = EmbeddingClassifier(4, 3, 7)
    with torch.no_grad():
        student.classify.weight[SEEN] = weights[SEEN]
    student.predict_unseen(unit * (attributes + level), SEEN, UNSEEN)
    torch.testing.assert_close(student.classify.weight, weights, atol=1e-2, rtol=0)
