"""What is measured: the losses, the released formulas by repetition, and one matrix product.

Each case is made for a batch of B rows and gives a function that runs forward and backward once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from d3_plugin import ID2SDLoss, O2DBDLoss

WIDTH, SEEN, CLASSES = 2048, 150, 200  # D, and the classes of CUB
Step = Callable[[], Tensor]
Inputs = dict[str, Tensor]


def inputs(rows: int, width: int = WIDTH) -> Inputs:
    """Logits and embeddings of teacher and student; gradient goes to the student's."""
    generator = torch.Generator().manual_seed(0)

    def normal(columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=generator)

    return {
        "teacher_logits": 4 * normal(SEEN),
        "student_logits": (4 * normal(CLASSES)).requires_grad_(),
        "teacher_embedding": normal(width).relu(),
        "student_embedding": normal(width).relu().requires_grad_(),
        "labels": torch.randint(SEEN, (rows,), generator=generator),
    }


def losses(released: bool) -> tuple[ID2SDLoss, O2DBDLoss]:
    torch.manual_seed(0)
    seen = torch.arange(SEEN)
    if released:
        return ID2SDLoss.released(seen), O2DBDLoss.released(CLASSES, seen)
    return ID2SDLoss(seen), O2DBDLoss(CLASSES, seen)


def both(id2sd: ID2SDLoss, o2dbd: O2DBDLoss) -> Callable[[Inputs], Tensor]:
    def value(x: Inputs) -> Tensor:
        logits = x["teacher_logits"], x["student_logits"]
        embeddings = x["teacher_embedding"], x["student_embedding"]
        value: Tensor = id2sd(*logits, *embeddings, x["labels"]) + o2dbd(*logits, x["labels"])
        return value

    return value


def pairwise(teacher: Tensor, student: Tensor, labels: Tensor) -> Tensor:
    """BCE-with-logits of the B² cosines, both batches repeated B times, as the authors released."""
    rows = len(labels)
    every_teacher = teacher.repeat_interleave(rows, dim=0)
    every_student = student.repeat(rows, 1)
    cosine = (torch.cosine_similarity(every_teacher, every_student) + 1) / 2
    same = labels.repeat_interleave(rows) == labels.repeat(rows)
    return F.binary_cross_entropy_with_logits(cosine, same.float())


def by_repetition(o2dbd: O2DBDLoss) -> Callable[[Inputs], Tensor]:
    """The released formulas once more, written from the formulas; O²DBD's parameters are given."""

    def value(x: Inputs) -> Tensor:
        teacher, student, labels = x["teacher_logits"], x["student_logits"], x["labels"]
        kl = F.kl_div(
            student[:, :SEEN].softmax(1).log_softmax(1),
            teacher.softmax(1).log_softmax(1),
            reduction="batchmean",
            log_target=True,
        )
        be = pairwise(x["teacher_embedding"], x["student_embedding"], labels)
        score = teacher.softmax(1).max(dim=1).values.log()
        c = (o2dbd.confidence_weight * (score + o2dbd.confidence_offset)).sigmoid()
        pair = torch.stack([c, 1 - c], dim=1).softmax(1)
        od = pairwise(pair, o2dbd.head(student.log_softmax(1)).softmax(1), labels)
        return kl + be + od

    return value


def step_of(value: Callable[[Inputs], Tensor], x: Inputs) -> Step:
    def step() -> Tensor:
        for leaf in x.values():
            leaf.grad = None
        result = value(x)
        result.backward()
        return result.detach()

    return step


def product(x: Inputs) -> Step:
    """(B, D) x (D, B), and its gradient for one side: the yardstick for growth in B."""
    teacher, student = x["teacher_embedding"], x["student_embedding"]
    outer = torch.ones(len(teacher), len(teacher))

    def step() -> Tensor:
        student.grad = None
        (teacher @ student.T).backward(outer)
        return outer[0, 0]

    return step


def make(name: str, rows: int, width: int = WIDTH) -> Step:
    """``product``, ``eager``, ``compiled``, ``eager released``, or ``repeated``."""
    x = inputs(rows, width)
    if name == "product":
        return product(x)
    id2sd, o2dbd = losses(released=name in ("eager released", "repeated"))
    if name == "repeated":
        return step_of(by_repetition(o2dbd), x)
    value = both(id2sd, o2dbd)
    if name == "compiled":
        torch._dynamo.reset()
        value = torch.compile(value, fullgraph=True)
    return step_of(value, x)
