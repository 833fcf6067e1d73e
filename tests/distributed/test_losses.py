"""With ``gather=True`` W processes compute what one process computes on the whole batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from d3_plugin import ID2SDLoss, O2DBDLoss
from d3_plugin.distributed import gather_rows, mean_over_processes
from tests.distributed.loss_cases import CLASSES, SEEN, SPLITS, batch, losses_in_ddp, students
from tests.distributed.processes import in_processes

FORMS = sorted(students(gather=False))
Answers = list[dict[str, Any]]


@pytest.fixture(scope="module", params=[2, 3])
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Of every process; they are started once for all tests."""
    return in_processes(losses_in_ddp, request.param, tmp_path_factory.mktemp("losses"))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("form", FORMS)
def test_value_and_gradient_are_those_of_one_process(
    answers: Answers, split: str, form: str
) -> None:
    for answer in answers:
        got = answer[f"{split}, {form}"]
        torch.testing.assert_close(got["value"], got["expected value"], rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(got["gradient"], got["expected gradient"], rtol=1e-6, atol=1e-9)
        assert got["gradient"].abs().max() > 1e-3


def test_local_losses_would_differ() -> None:
    """The relations need the other processes' rows: what the tests above compare is not trivial."""
    student, (features, labels) = students(gather=False)["contrastive"], batch(24)
    halves = [student(f, y) for f, y in zip(features.split(12), labels.split(12), strict=True)]
    assert abs(sum(halves).item() / 2 - student(features, labels).item()) > 0.01


def test_gradient_accumulation_under_no_sync(answers: Answers) -> None:
    for answer in answers:
        got = answer["accumulated"]
        torch.testing.assert_close(got["gradient"], got["expected gradient"], rtol=1e-6, atol=1e-9)


def test_gathered_rows_and_their_gradient(answers: Answers) -> None:
    expected = torch.cat([torch.full((r + 1, 2), float(r)) for r in range(len(answers))])
    for rank, answer in enumerate(answers):
        assert torch.equal(answer["gathered"], expected.double())
        # d/dx x² = 2x, times W; nothing for the column that the loss leaves out.
        wanted = torch.tensor([2.0 * rank * len(answers), 0]).double().expand(rank + 1, 2)
        assert torch.equal(answer["first"], wanted)
        assert torch.equal(answer["second"], 2 * wanted)


def test_mean_over_unequal_rows(answers: Answers) -> None:
    processes = len(answers)
    rows = sum(range(processes))
    for rank, answer in enumerate(answers):
        assert answer["mean"].item() == pytest.approx(sum(r * r for r in range(processes)) / rows)
        assert answer["mean's gradient"].item() == pytest.approx(processes * rank / rows)
        assert answer["empty"].item() == 1.0


def test_other_widths_are_one_error_in_every_process(answers: Answers) -> None:
    for rank, answer in enumerate(answers):
        assert answer["problem"].startswith("gather=True needs the same widths and dtypes")
        assert "tensor 1 of 2 differs in ranks [1] from rank 0" in answer["problem"]
        assert f"in rank {rank} a row is ({2 + (rank == 1)},)" in answer["problem"]


def test_without_a_process_group_gather_changes_nothing() -> None:
    whole = batch(12)
    for form, student in students(gather=True).items():
        assert torch.equal(student(*whole), students(gather=False)[form](*whole))
    rows = torch.ones(2, 3)
    assert gather_rows(rows)[0] is rows
    assert mean_over_processes(rows[0, 0], 2).item() == 1


def test_repr_says_when_it_gathers() -> None:
    for loss in (ID2SDLoss(SEEN, gather=True), O2DBDLoss(CLASSES, SEEN, gather=True)):
        assert "gather=True" in repr(loss)
    assert "gather" not in repr(ID2SDLoss(SEEN))
