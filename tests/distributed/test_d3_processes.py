"""``attach(gather=True)``: one student for all processes, and a generator in DDP that survives."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from d3_plugin.data import GZSLData
from tests.distributed.d3_cases import WAYS, WRONG_WAYS, wrapper_in_ddp
from tests.distributed.processes import in_processes
from tests.toys import SMALL, ScriptHost, assert_equal, attach

Answers = list[dict[str, Any]]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Of both processes; they are started once for all tests."""
    return in_processes(wrapper_in_ddp, 2, tmp_path_factory.mktemp("wrapper"))


def test_two_processes_do_what_one_does_with_the_whole_batch(answers: Answers) -> None:
    """D³ computes in float32: gradients of up to 0.6, compared to 1e-6."""
    for answer in answers:
        parts, whole = answer["parts"], answer["whole"]
        assert {"loss 1", "cls 1", "kl 1", "be 1", "od 1", "student's gradient 1"} <= parts.keys()
        for name in whole:
            torch.testing.assert_close(parts[name], whole[name], rtol=1e-5, atol=1e-6, msg=name)
        for name in ("student's gradient 1", "generator's gradient 1"):
            assert whole[name].abs().max() > 1e-2
    assert torch.equal(
        answers[0]["parts"]["student's gradient 1"], answers[1]["parts"]["student's gradient 1"]
    )


@pytest.mark.parametrize("way", WAYS)
def test_student_and_generator_stay_the_same_everywhere(answers: Answers, way: str) -> None:
    first, second = (answer["ways"][way] for answer in answers)
    assert first["problem"] == second["problem"] == ""
    for name in ("generator", "student", "teacher"):
        assert torch.equal(first[name], second[name]), name
    assert not torch.equal(first["generator"], first["start"])
    assert first["steps"] == second["steps"] >= 3
    assert torch.equal(first["total"], second["total"]), "the terms are those of the whole batch"
    assert not torch.equal(first["stream"], second["stream"]), "noise must differ by rank"


@pytest.mark.parametrize("way", WRONG_WAYS)
def test_a_gradient_that_nobody_averages_is_found_in_every_process(
    answers: Answers, way: str
) -> None:
    for answer in answers:
        assert answer["ways"][way]["problem"].startswith("step 2: the generator's hidden.weight")
        assert "d3.loss() after the host's forward" in answer["ways"][way]["problem"]
        assert torch.equal(answer["ways"][way]["student"], answers[0]["ways"][way]["student"])


def test_rank_0_state_continues_in_every_process(answers: Answers) -> None:
    """Own state: the own stream goes on. Another's: one that no other process has."""
    for rank, answer in enumerate(answers):
        resumed = answer["resumed"]
        assert torch.equal(resumed["own"], resumed["went on"])
        assert torch.equal(resumed["rank 0's"], resumed["own"]) == (rank == 0)
    first, second = (answer["resumed"] for answer in answers)
    for name in first:
        assert not torch.equal(first[name], second[name])


def test_generator_in_ddp_without_gather_warns(answers: Answers) -> None:
    for answer in answers:
        assert "each trains its own student" in answer["warned"]
        assert "attach(gather=True)" in answer["warned"]


def test_synthesis_through_ddp_itself(answers: Answers) -> None:
    assert torch.equal(answers[0]["through"]["generator"], answers[1]["through"]["generator"])


def test_everyone_starts_from_rank_0(answers: Answers) -> None:
    assert torch.equal(answers[0]["met"], answers[1]["met"])


@pytest.mark.parametrize("mode", ["loss", "hook"])
def test_without_a_process_group_gather_changes_nothing(toy_data: GZSLData, mode: str) -> None:
    states = []
    for gather in (False, True):
        host = ScriptHost(toy_data)
        d3 = attach(host, SMALL, mode=mode, gather=gather)
        host.run(3, d3 if mode == "loss" else None)
        states.append(host.state() | d3.distiller.state_dict())
        d3.detach()
    assert_equal(*states)
