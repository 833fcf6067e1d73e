"""The losses cost what one (B, D) x (D, B) product costs: nothing of B² rows, in memory or time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from d3_plugin import D3Settings
from d3_plugin.distillation.distiller import Distiller
from d3_plugin.distillation.networks import EmbeddingClassifier
from tests.benchmarks.cases import CLASSES, both, by_repetition, inputs, losses, make, step_of
from tests.toys import SMALL, ScriptHost, attach

ROWS, WIDTH = 256, 320
FORMS = pytest.mark.parametrize("released", [False, True], ids=["default", "released"])


class Largest(TorchDispatchMode):
    """The largest tensor that any operation returns, forward or backward."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        results = out if isinstance(out, (tuple, list)) else [out]
        sizes = [x.untyped_storage().nbytes() // 4 for x in results if isinstance(x, Tensor)]
        self.numbers = max([self.numbers, *sizes])
        return out


def largest(step: Callable[[], Tensor]) -> int:
    with Largest() as seen:
        step()
    return seen.numbers


@FORMS
@pytest.mark.parametrize(("rows", "width"), [(256, 320), (512, 32), (64, 512)])
def test_no_temporary_is_larger_than_b_by_b_or_b_by_d(
    released: bool, rows: int, width: int
) -> None:
    step = step_of(both(*losses(released)), inputs(rows, width))
    assert largest(step) <= max(rows * rows, rows * max(width, CLASSES))


def test_that_would_be_noticed() -> None:
    step = step_of(by_repetition(losses(True)[1]), inputs(32, WIDTH))
    assert largest(step) >= 32 * 32 * WIDTH


@FORMS
def test_memory_kept_for_backward_is_a_few_matrices(released: bool) -> None:
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return x

    x = inputs(ROWS, WIDTH)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        both(*losses(released))(x)
    # Of both losses: about five (B, B) and the two sides with their unit rows.
    assert sum(kept.values()) <= 4 * (7 * ROWS * ROWS + 5 * ROWS * WIDTH)


def test_repetition_is_the_same_loss() -> None:
    for rows in (7, 20):
        x, (id2sd, o2dbd) = inputs(rows, 9), losses(released=True)
        expected = by_repetition(o2dbd)(x).item()
        assert both(id2sd, o2dbd)(x).item() == pytest.approx(expected, rel=1e-5)


def seconds(step: Callable[[], Tensor]) -> float:
    """CPU time, which other work on the machine does not lengthen much."""
    start = time.process_time()
    step()
    return time.process_time() - start


@pytest.mark.parametrize("name", ["eager", "eager released"])
def test_ten_times_faster_than_repetition(name: str) -> None:
    """A small form of docs/performance.md."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ours, repeated = make(name, 128, 512), make("repeated", 128, 512)
        ours()
        pairs = [(seconds(ours), seconds(repeated)) for _ in range(3)]
    finally:
        torch.set_num_threads(threads)
    assert min(r for _, r in pairs) > 10 * min(o for o, _ in pairs)


def test_every_row_passes_teacher_and_student_once(host: ScriptHost) -> None:
    d3 = attach(host)
    batch = host.data.train_features[::10], host.data.train_labels[::10]
    assert len(batch[0]) == 8
    d3.loss(*batch)  # holds the labels against the teacher once
    rows: dict[nn.Module, int] = {d3.distiller.teacher: 0, d3.distiller.student: 0}
    for module in rows:
        module.register_forward_hook(lambda m, x, _: rows.update({m: rows[m] + len(x[0])}))
    d3.loss(*batch)
    assert set(rows.values()) == {SMALL.synthetic_rows + 8}


@pytest.mark.parametrize("settings", [D3Settings(), D3Settings.released()])
def test_a_step_reads_no_value(monkeypatch: pytest.MonkeyPatch, settings: D3Settings) -> None:
    """On the device ``meta`` tensors have none: what works there does not make a GPU wait."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # meta has no autocast
    teacher = EmbeddingClassifier(5, settings.embedding_dim, 2).requires_grad_(False)
    distiller = Distiller(teacher, 4, torch.tensor([0, 2]), settings, torch.randn(10, 2))
    distiller.to("meta")
    with torch.device("meta"):
        synthetic, real = torch.rand(6, 5, requires_grad=True), torch.rand(7, 5)
        labels = torch.zeros(13, dtype=torch.long)
    terms = distiller.terms(distiller.batch(synthetic, real, labels))
    wanted = [synthetic, *distiller.learned()]
    gradients = torch.autograd.grad(torch.stack(list(terms.values())).sum(), wanted)
    assert terms.keys() == {"cls", "kl", "be", "od"}
    assert [g.shape for g in gradients] == [w.shape for w in wanted]
