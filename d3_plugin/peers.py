"""An attached D³ in several processes: one student for all, other random numbers in each.

Everything here is for ``attach(gather=True)``, and does nothing without a process group of at least
two. Collective operations work on the generator's device, so any backend that supports it will do.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from d3_plugin.distributed import process_count, process_rank
from d3_plugin.errors import D3Warning, HostError
from d3_plugin.isolation import RandomStream


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside DDP, or the module itself.

    D³ synthesises past DDP: its gradient arrives in the same parameters and in the host's own
    backward, where DDP averages it with the host's, and another forward pass of DDP would announce
    another backward and send the buffers around once more.
    """
    inner: nn.Module = module.module if isinstance(module, DistributedDataParallel) else module
    return inner


def warn_alone(generator: nn.Module) -> None:
    """Warn that without ``gather`` every process trains a student of its own."""
    if process_count() > 1 and isinstance(generator, DistributedDataParallel):
        warnings.warn(
            f"the generator is trained by {process_count()} processes, but each trains a student "
            "of its own, with the same synthetic classes and noise; attach(gather=True) trains one",
            D3Warning,
            stacklevel=3,
        )


def stream_of_rank(seed: int, device: torch.device, steps: int = 0) -> RandomStream:
    """The training stream of this process; rank 0 has that of a single process.

    Args:
        seed, device: as in :class:`~d3_plugin.isolation.RandomStream`.
        steps: where training continues, if this process's own stream was not saved.
    """
    rank = process_rank()
    return RandomStream(seed, device, f"training {rank} {steps}" if rank or steps else "training")


def same_start(module: nn.Module) -> None:
    """Everyone takes rank 0's weights; the same seed does not give the same bits on every GPU."""
    if process_count() > 1:
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, src=0)


def average(gradients: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The mean over processes, in one message; what DDP does for parameters of its own."""
    if process_count() == 1 or not gradients:
        return tuple(gradients)
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = (flat / process_count()).split([gradient.numel() for gradient in gradients])
    return tuple(p.view_as(g).to(g.dtype) for p, g in zip(parts, gradients, strict=True))


def agree(good: Tensor) -> Tensor:
    """Whether it is true in every process; 0-dim bool."""
    if process_count() == 1:
        return good
    everywhere = good.long()
    dist.all_reduce(everywhere, op=dist.ReduceOp.MIN)
    return everywhere.bool()


def check_same_generator(generator: nn.Module, step: int) -> None:
    """The generator's parameters are still the same in every process.

    DDP averages nothing in a backward that its forward did not announce, and says nothing. Looked
    at in steps 1, 2, 4, 8, …, which finds that early and costs nothing later.

    Raises:
        HostError: in every process; names the parameter.
    """
    if process_count() == 1 or step & (step - 1):
        return
    names = [name for name, _ in generator.named_parameters()]
    with torch.no_grad():
        own = torch.stack([p.sum(dtype=torch.float64) for p in generator.parameters()])
    everyone = [torch.empty_like(own) for _ in range(process_count())]
    dist.all_gather(everyone, own)
    sums = torch.stack(everyone)
    same = torch.isclose(sums, sums[:1], rtol=1e-9, atol=1e-12, equal_nan=True).all(dim=0)
    differing = [name for name, equal in zip(names, same.tolist(), strict=True) if not equal]
    if differing:
        raise HostError(
            f"D³'s step {step}: {len(differing)} parameters of the generator differ between "
            f"processes ({', '.join(differing[:5])}), so some gradient was not averaged. With "
            "DistributedDataParallel add d3.loss(...) to the loss of the host's own forward pass "
            "and call backward on the sum, or call d3.loss(...).backward() before that forward "
            "pass; without it average the generator's gradients yourself. Sharded generators "
            "(FSDP) are not supported"
        )
