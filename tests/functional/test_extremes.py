"""Numbers at the edge of float32 give what float64 gives."""

from __future__ import annotations

import pytest
import torch

from d3_plugin import D3Settings, HostError, ID2SDLoss
from d3_plugin.data import GZSLData
from d3_plugin.functional import cosine_matrix, id_score, label_space_kl, relation_loss
from tests.toys import ScriptHost, attach


@pytest.mark.parametrize("scale", [1e15, 1e19, 1e25, 1e36])
def test_large_embeddings_do_not_overflow(scale: float) -> None:
    torch.manual_seed(0)
    rows, columns = torch.rand(6, 16), torch.rand(5, 16)
    expected = cosine_matrix(rows, columns)
    torch.testing.assert_close(cosine_matrix(rows * scale, columns * scale), expected)
    same = torch.rand(6, 5) > 0.5
    value = relation_loss(rows * scale, columns * scale, same)
    torch.testing.assert_close(value, relation_loss(rows, columns, same))


def test_id2sd_of_large_embeddings_is_that_of_small_ones() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(8, 4), torch.arange(8) % 2
    teacher, student = torch.rand(8, 16), torch.rand(8, 16)
    loss = ID2SDLoss(torch.tensor([0, 1]))
    small = loss(logits[:, :2], logits, teacher, student, labels)
    large = loss(logits[:, :2], logits, teacher * 1e20, student * 1e20, labels)
    torch.testing.assert_close(large, small)


def test_a_class_that_the_teacher_rules_out_adds_nothing() -> None:
    teacher = torch.tensor([[2.0, -torch.inf, 1.0]])
    student = torch.randn(1, 3, requires_grad=True)
    two = torch.tensor([0, 2])
    value = label_space_kl(teacher, student, torch.arange(3))
    p = teacher[:, two].softmax(1)
    expected = (p * (p.log() - student.log_softmax(1)[:, two])).sum()
    torch.testing.assert_close(value, expected)
    (gradient,) = torch.autograd.grad(value, student)
    assert gradient.isfinite().all()
    assert id_score(teacher, "entropy").item() == pytest.approx(float((p * p.log()).sum()))


def test_autocast_around_the_step_changes_no_gradient(toy_data: GZSLData) -> None:
    settings = D3Settings(embedding_dim=64, teacher_epochs=2, synthetic_rows=10, weight=0.0)
    ends = []
    for enabled in (False, True):
        host = ScriptHost(toy_data)
        host.net_g.eval()
        d3 = attach(host, settings)
        host.sample()
        # Synthesis itself is the host's, and would run in half precision.
        rows = toy_data.train_features[:10]
        d3._hooks.d3_synthesize_features = lambda **_: rows  # noqa: B023
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            d3.loss(host.input_res, host.input_label)
        ends.append([p.clone() for p in d3.distiller.learned()])
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))


def test_inference_mode_is_refused(toy_data: GZSLData) -> None:
    host = ScriptHost(toy_data)
    d3 = attach(host)
    host.sample()
    with torch.inference_mode(), pytest.raises(HostError, match="inference_mode"):
        d3.loss(host.input_res, host.input_label)
    host.run(1, d3)
