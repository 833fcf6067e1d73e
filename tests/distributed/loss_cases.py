"""What each process does for ``test_losses.py``: the losses in DDP, and in one process."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from d3_plugin import ID2SDLoss, InputError, O2DBDLoss
from d3_plugin.distributed import gather_rows, mean_over_processes
from d3_plugin.functional.relations import RELATION_FORMS

SEEN, CLASSES, WIDTH, EMBEDDING = torch.tensor([0, 2, 3, 5]), 7, 5, 6
# Rows of each rank, of at most 4 processes.
SPLITS = {"equal": [6, 6, 6, 6], "unequal": [5, 9, 3, 7], "a rank without rows": [8, 0, 5, 1]}
Batch = tuple[Tensor, Tensor]


class Student(nn.Module):
    """A shared student with both losses, as a user would put them into one DDP module."""

    def __init__(self, id2sd: ID2SDLoss, o2dbd: O2DBDLoss) -> None:
        super().__init__()
        self.embed = nn.Linear(WIDTH, EMBEDDING)
        self.classify = nn.Linear(EMBEDDING, CLASSES)
        self.id2sd, self.o2dbd = id2sd, o2dbd

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        teacher_embedding = features.sin().repeat(1, 2)[:, :EMBEDDING].relu()
        teacher_logits = 3 * features.cos()[:, : len(SEEN)]
        embedding = self.embed(features).relu()
        logits = self.classify(embedding)
        known = self.o2dbd.is_seen[labels]  # rows of seen classes are split unequally always
        loss: Tensor = self.id2sd(
            teacher_logits[known],
            logits[known],
            teacher_embedding[known],
            embedding[known],
            labels[known],
        )
        return loss + self.o2dbd(teacher_logits, logits, labels)


def students(gather: bool) -> dict[str, Student]:
    """Every form of the losses, with the same weights in every process."""
    options: dict[str, dict[str, Any]] = {form: {"relation": form} for form in RELATION_FORMS}
    options |= {"class target": {"target": "class"}, "released": {}}
    made = {}
    for name, given in options.items():
        torch.manual_seed(0)
        if name == "released":
            id2sd = ID2SDLoss.released(SEEN, gather=gather)
            o2dbd = O2DBDLoss.released(CLASSES, SEEN, gather=gather)
        else:
            relation = given.get("relation", "contrastive")
            id2sd = ID2SDLoss(SEEN, relation=relation, gather=gather)
            o2dbd = O2DBDLoss(CLASSES, SEEN, **given, gather=gather)
        made[name] = Student(id2sd, o2dbd).double()
    return made


def batch(rows: int) -> Batch:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(rows, WIDTH, generator=generator, dtype=torch.float64)
    return features, torch.randint(CLASSES, (rows,), generator=generator)


def gradients(module: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


def losses_in_ddp() -> dict[str, Any]:
    """Value and DDP-averaged gradient of each form and split, and those of one process."""
    rank, processes = dist.get_rank(), dist.get_world_size()
    answers: dict[str, Any] = {}
    for split, sizes in SPLITS.items():
        sizes = sizes[:processes]
        whole = batch(sum(sizes))
        own = [part.split(sizes)[rank] for part in whole]
        for (form, student), alone in zip(
            students(gather=True).items(), students(gather=False).values(), strict=True
        ):
            ddp = DistributedDataParallel(student)  # by name: it averages while it lives
            loss = ddp(*own)
            loss.backward()
            expected = alone(*whole)
            expected.backward()
            answers[f"{split}, {form}"] = {
                "value": loss.detach(),
                "gradient": gradients(student),
                "expected value": expected.detach(),
                "expected gradient": gradients(alone),
            }
    return answers | {"accumulated": accumulated(), **pieces()}


def accumulated() -> dict[str, Tensor]:
    """Two losses under ``no_sync`` and a third one that is reduced, then one step's gradient."""
    rank, processes = dist.get_rank(), dist.get_world_size()
    student, alone = students(gather=True)["bce"], students(gather=False)["bce"]
    ddp = DistributedDataParallel(student)
    for number in range(3):
        features, labels = batch(4 * processes)
        whole = (features + number, labels)
        own = [part.split(4)[rank] for part in whole]
        if number < 2:
            with ddp.no_sync():
                ddp(*own).backward()
        else:
            ddp(*own).backward()
        alone(*whole).backward()
    return {"gradient": gradients(student), "expected gradient": gradients(alone)}


def pieces() -> dict[str, Any]:
    """The functions of ``d3_plugin.distributed`` by themselves."""
    rank, processes = dist.get_rank(), dist.get_world_size()
    rows = torch.full((rank + 1, 2), float(rank), dtype=torch.float64, requires_grad=True)
    (gathered,) = gather_rows(rows)
    gathered[:, 0].square().sum().backward(retain_graph=True)
    first = rows.grad.clone()
    gathered[:, 0].square().sum().backward()  # once more: nothing is communicated in backward
    mean = torch.tensor(float(rank), requires_grad=True)
    over_all = mean_over_processes(mean, rank)  # rank 0 has no rows
    over_all.backward()
    empty = F.cross_entropy(torch.zeros(0, 3), torch.zeros(0).long())  # NaN, and nobody's
    try:
        gather_rows(torch.zeros(3, 2 + (rank == 1)), torch.zeros(3, dtype=torch.long))
        problem = ""
    except InputError as error:
        problem = str(error)
    return {
        "gathered": gathered.detach(),
        "first": first,
        "second": rows.grad,
        "mean": over_all.detach(),
        "mean's gradient": mean.grad,
        "empty": mean_over_processes(empty if rank == 0 else torch.ones(()), rank),
        "processes": processes,
        "problem": problem,
    }
