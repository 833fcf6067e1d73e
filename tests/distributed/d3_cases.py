"""What each process does for ``test_d3_processes.py``: an attached D³ beside a generator in DDP."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import d3_plugin
from d3_plugin import D3, HostError
from d3_plugin.distributed import same_start
from tests.toys import SMALL, PlainGenerator, ScriptHost, attach, toy_problem

ROWS, SYNTHETIC = 6, 5  # of a process


def flat(parameters: Iterator[nn.Parameter]) -> Tensor:
    return torch.cat([p.detach().flatten() for p in parameters])


def two_steps(part: int, parts: int, *, ddp: bool) -> dict[str, Tensor]:
    """Two steps on part ``part`` of a batch; with a single part it is the whole batch.

    A single unseen class and noise from a table: the processes draw what one process draws.
    """
    data, processes = toy_problem((0, 1, 3, 4), (2,)), dist.get_world_size()
    torch.manual_seed(5)
    generator: nn.Module = PlainGenerator()
    optimizer = torch.optim.SGD(generator.parameters(), lr=0.1)
    if ddp:
        generator = DistributedDataParallel(generator)
    table = torch.Generator().manual_seed(9)
    tables = [torch.randn(SYNTHETIC * processes, 5, generator=table) for _ in range(3)]
    order = torch.randperm(len(data.train_labels), generator=table)[: ROWS * processes]
    calls: list[Tensor] = []

    def own(rows: Tensor) -> Tensor:
        return rows.chunk(parts)[part]

    def synthesize(class_ids: Tensor, attributes: Tensor) -> Tensor:
        inner = generator.module if ddp else generator
        if len(class_ids) == 2:  # the trial in attach
            return inner(torch.zeros_like(attributes), attributes)
        calls.append(class_ids)
        return inner(own(tables[len(calls)]), attributes)

    settings = replace(
        SMALL,
        od_relation="contrastive",  # BCE takes the log of 1 - c, all rounding where c is near 1
        synthetic_rows=SYNTHETIC * processes // parts,
        student_start="random",  # a copy has a KL gradient of rounding errors only
    )
    d3 = d3_plugin.attach(
        generator=generator,
        optimizer=optimizer,
        data=data,
        settings=settings,
        synthesize=synthesize,
        gather=ddp,
    )
    learned: list[Tensor] = []
    d3._loss.student.optimizer.register_step_pre_hook(
        lambda *_: learned.append(torch.cat([p.grad.flatten() for p in d3.distiller.learned()]))
    )
    answer = {"start": flat(iter(d3.distiller.learned()))}
    for step in range(2):
        optimizer.zero_grad()
        rows = own(order)
        attributes = data.attributes[data.train_labels[rows]]
        fake = generator(own(torch.ones(ROWS * processes, 5)), attributes)
        loss = fake.square().mean()
        extra = d3.loss(data.train_features[rows], data.train_labels[rows])
        (loss + extra).backward()
        grads = [p.grad.flatten() for p in generator.parameters()]
        answer[f"generator's gradient {step}"] = torch.cat(grads)
        answer[f"student's gradient {step}"] = learned[step]
        answer[f"loss {step}"] = extra.detach()
        alone = {"gradient_share", "teacher_real", "teacher_synthetic"}  # of one process
        terms = d3.values.keys() - alone
        answer |= {f"{name} {step}": d3.values[name] for name in sorted(terms)}
        optimizer.step()
    return answer


# --- the ways in which scripts call backward and step


def plain(host: ScriptHost, d3: D3) -> None:
    (host.generator_loss() + d3.loss(host.input_res, host.input_label)).backward()
    host.optimizer_g.step()


def unequal(host: ScriptHost, d3: D3) -> None:
    rows = 8 - 3 * dist.get_rank()
    loss = host.generator_loss()  # first: DDP's forward overwrites buffers, batch norm's too
    (loss + d3.loss(host.input_res[:rows], host.input_label[:rows])).backward()
    host.optimizer_g.step()


def own_rows(host: ScriptHost, d3: D3) -> None:
    (host.generator_loss() + d3.loss()).backward()
    host.optimizer_g.step()


def no_sync(host: ScriptHost, d3: D3) -> None:
    with host.net_g.no_sync():
        (host.generator_loss() + d3.loss()).backward()
    (-host.criticise(host.fake()) + d3.loss()).backward()
    host.optimizer_g.step()


def accumulated(host: ScriptHost, d3: D3) -> None:
    (host.generator_loss() + d3.loss()).backward()
    (-host.criticise(host.fake()) + d3.loss() + d3.loss()).backward()
    host.optimizer_g.step()


def backward_before(host: ScriptHost, d3: D3) -> None:
    host.net_g.zero_grad()
    d3.loss().backward()
    (-host.criticise(host.fake())).backward()
    host.optimizer_g.step()


def scaled(host: ScriptHost, d3: D3) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = host.generator_loss() + d3.loss()
    scaler.scale(loss).backward()
    scaler.step(host.optimizer_g)
    scaler.update()


def stepped_by_hook(host: ScriptHost, d3: D3) -> None:
    host.generator_loss().backward()
    host.optimizer_g.step()


def backward_after(host: ScriptHost, d3: D3) -> None:
    """DDP has averaged and looks away: its own documentation has no such case either."""
    host.generator_loss().backward()
    d3.loss().backward()
    host.optimizer_g.step()


def without_ddp(host: ScriptHost, d3: D3) -> None:
    host.net_g = getattr(host.net_g, "module", host.net_g)
    plain(host, d3)


WAYS: dict[str, Callable[[ScriptHost, D3], None]] = {
    way.__name__: way
    for way in (
        plain,
        unequal,
        own_rows,
        no_sync,
        accumulated,
        backward_before,
        scaled,
        stepped_by_hook,
    )
}
WRONG_WAYS = {way.__name__: way for way in (backward_after, without_ddp)}


def make(way: str = "plain", **options: Any) -> tuple[ScriptHost, D3]:
    """A script whose batches and noise differ by rank, with its generator in DDP."""
    host = ScriptHost(toy_problem(), seed=dist.get_rank())
    host.net_g = DistributedDataParallel(host.net_g)
    options = {"gather": True, "mode": "hook" if way == "stepped_by_hook" else "loss"} | options
    return host, attach(host, SMALL, **options)


def run(way: str, step: Callable[[ScriptHost, D3], None]) -> dict[str, Any]:
    host, d3 = make(way)
    start = flat(host.net_g.parameters())
    problem = ""
    try:
        for _ in range(3):
            host.sample()
            step(host, d3)
    except HostError as error:
        problem = str(error)
    d3.detach()
    return {
        "start": start,
        "generator": flat(host.net_g.parameters()),
        "student": flat(iter(d3.distiller.learned())),
        "teacher": flat(d3.distiller.teacher.parameters()),
        "total": d3.values["total"],
        "stream": draw(d3),
        "steps": d3.steps,
        "problem": problem,
    }


def draw(d3: D3) -> Tensor:
    with d3._loss.stream:
        return torch.rand(4)


def resumed() -> dict[str, Tensor]:
    """Rank 0's state in every process, and every process's own."""
    host, d3 = make()
    plain(host, d3)
    states = [None] * dist.get_world_size()
    dist.all_gather_object(states, d3.state_dict())
    answer = {}
    for name, state in {"rank 0's": states[0], "own": d3.state_dict()}.items():
        other = make()[1]
        other.load_state_dict(state)
        answer[name] = draw(other)
        answer[f"{name} again"] = draw(other)
        other.load_state_dict(state)
        assert torch.equal(answer[name], draw(other))
    return {**answer, "went on": draw(d3)}


def warned() -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make(gather=False)
    return " ".join(str(w.message) for w in caught)


def synthesised_through_ddp() -> dict[str, Tensor]:
    """A script's own function that knows nothing of ``netG.module``.

    With its buffers broadcast, batch norm fails in older versions of PyTorch in any second forward
    pass before backward, whoever makes it.
    """
    host, _ = make()
    host.net_g = DistributedDataParallel(host.net_g.module, broadcast_buffers=False)
    d3 = attach(
        host, SMALL, gather=True, synthesize=lambda _, a: host.net_g(torch.randn_like(a), a)
    )
    for _ in range(3):
        host.sample()  # batches of a rank's own
        plain(host, d3)
    return {"generator": flat(host.net_g.parameters())}


def one_process_alone() -> None:
    """Rank 0 uses D³ without ``gather`` and meets nobody: a collective operation would hang."""
    if dist.get_rank() == 0:
        host = ScriptHost(toy_problem())
        plain(host, attach(host, SMALL))


def met() -> Tensor:
    torch.manual_seed(dist.get_rank())
    module = nn.Linear(2, 2)
    same_start(module)
    return module.weight.detach()


def wrapper_in_ddp() -> dict[str, Any]:
    rank, processes = dist.get_rank(), dist.get_world_size()
    one_process_alone()
    return {
        "parts": two_steps(rank, processes, ddp=True),
        "whole": two_steps(0, 1, ddp=False),
        "ways": {name: run(name, way) for name, way in {**WAYS, **WRONG_WAYS}.items()},
        "resumed": resumed(),
        "warned": warned(),
        "through": synthesised_through_ddp(),
        "met": met(),
    }
