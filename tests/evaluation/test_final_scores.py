"""The sum of host and student, against a loop over its entries."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from d3_plugin.evaluation.final_classifier import final_scores

SEEN = torch.tensor([0, 2])


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    host = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    return host, torch.randn(3, 4, generator=generator, dtype=torch.float64).log_softmax(dim=1)


@pytest.mark.parametrize("with_host", [True, False])
def test_against_a_loop(with_host: bool) -> None:
    host, student = inputs()
    kept = host.clone(), student.clone()
    made = final_scores(
        host if with_host else None, student, SEEN, ensemble_weight=0.4, seen_offset=0.7
    )
    made = made if with_host else made[None]
    for d, n, c in torch.cartesian_prod(*(torch.arange(k) for k in made.shape)).tolist():
        expected = student[n, c].item()
        if with_host:
            normaliser = math.log(sum(math.exp(v) for v in host[d, n].tolist()))
            expected = host[d, n, c].item() - normaliser + 0.4 * expected
        expected -= 0.7 * math.log(2) if c in (0, 2) else 0.0
        assert made[d, n, c].item() == pytest.approx(expected, abs=1e-12)
    assert torch.equal(host, kept[0]), "inputs are left alone"
    assert torch.equal(student, kept[1])


def test_the_host_alone_stays_as_it_is() -> None:
    host, _ = inputs()
    made = final_scores(host, None, SEEN, ensemble_weight=0.4, seen_offset=0.7)
    assert torch.equal(made, host)
