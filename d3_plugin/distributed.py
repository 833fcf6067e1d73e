r"""Losses over the batch of all processes, for training with DistributedDataParallel (DDP).

**The scale of the gradient.** Let the batch of W processes be :math:`x_1(\theta) \dots x_W(\theta)`
and the loss :math:`L(x_1, \dots, x_W)`, one number that every process computes from the gathered
rows. The aim is the gradient of a single process with the whole batch,
:math:`\sum_r \frac{\partial L}{\partial x_r} \frac{\partial x_r}{\partial \theta}`. Process r can
run backward only through its own rows, and DDP *averages* the results:

.. math:: \frac1W \sum_r s \frac{\partial L}{\partial x_r} \frac{\partial x_r}{\partial \theta},

which is that gradient for :math:`s = W`: the backward of :func:`gather_rows` returns W times the
gradient of the own rows. It needs no communication, because every process has the whole gradient of
its gathered copy; ``torch.distributed.nn.functional.all_gather`` sums the W copies to the same
number over the network. So backward may be called any number of times, also under ``no_sync``. If
an optimiser *sums* gradients over processes, divide the loss by W.

A mean over rows, :math:`L = \frac1N \sum_r n_r m_r` with :math:`n_r` rows of mean :math:`m_r` in
process r, needs :math:`W n_r / N` times the gradient of the own mean, see
:func:`mean_over_processes`. With equally many rows everywhere this is the plain mean of each
process, averaged by DDP.

As with any collective operation, every process must make the same calls in the same order. An error
in one process (a wrong shape, say) leaves the others waiting until the launcher ends them or the
process group times out.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from d3_plugin.errors import HostError, InputError, Problems, warn


def process_count() -> int:
    """W; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """The rank; 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def _everyones(own: Tensor) -> Tensor:
    """(W, ...): this tensor of every process, of one size everywhere."""
    everyone = [torch.empty_like(own) for _ in range(process_count())]
    dist.all_gather(everyone, own)
    return torch.stack(everyone)


def gather_rows(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The rows of all processes, in the order of their ranks, with the gradient DDP needs.

    Without a process group, or in a group of one, the tensors are returned unchanged.

    Args:
        tensors: (N,) or (N, K) each, with the same N; N may differ between processes, and be 0.

    Returns:
        (sum of N, ...) each, the same in every process.

    Raises:
        InputError: in *every* process, if widths or dtypes differ between processes.
    """
    if process_count() == 1:
        return tensors
    counts = _agreed_counts(tensors)
    gathered: list[Tensor] = []
    for own in tensors:
        # Padded, because backends gather tensors of one size only.
        padded = own.new_zeros(max(counts), *own.shape[1:])
        padded[: len(own)] = own.detach()
        rows = [each[:count] for each, count in zip(_everyones(padded), counts, strict=True)]
        rows[process_rank()] = own.detach() + len(counts) * (own - own.detach())
        gathered.append(torch.cat(rows))
    return tuple(gathered)


def _agreed_counts(tensors: tuple[Tensor, ...]) -> list[int]:
    """Number of rows of each process; one small message, so that all see the same problems."""
    kinds = [zlib.crc32(f"{t.dtype} {tuple(t.shape[1:])}".encode()) for t in tensors]
    own = torch.tensor([len(tensors[0]), *kinds], device=tensors[0].device)
    messages = _everyones(own).tolist()
    problems = Problems("gather=True needs the same widths and dtypes in every process")
    for position, tensor in enumerate(tensors, start=1):
        others = [r for r, m in enumerate(messages) if m[position] != messages[0][position]]
        if others:
            problems.add(
                f"tensor {position} of {len(tensors)} differs in ranks {others} from rank 0; in "
                f"rank {process_rank()} a row is {tuple(tensor.shape[1:])} {tensor.dtype}"
            )
    problems.raise_as(InputError)
    return [message[0] for message in messages]


def mean_over_processes(mean: Tensor, rows: int) -> Tensor:
    """The mean over the rows of all processes, from each one's own mean.

    Args:
        mean: 0-dim, the mean over this process's rows.
        rows: their number; with 0 the mean is ignored.

    Returns:
        0-dim, the same in every process, with the gradient DDP needs. ``mean`` itself without a
        process group, or in a group of one.
    """
    processes = process_count()
    if processes == 1:
        return mean
    own = mean if rows else mean.nan_to_num()  # over 0 rows it is NaN
    sums = torch.stack([own.detach() * rows, own.new_tensor(rows)])
    dist.all_reduce(sums)
    number = sums[1].clamp_min(1)
    return sums[0] / number + processes * rows / number * (own - own.detach())


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside DDP, or the module itself.

    D³ synthesises without the DDP wrapper. Its gradient reaches the same parameters in the host's
    backward, where DDP averages it with the host's. A second forward pass through DDP would expect
    a second backward and broadcast the buffers again.
    """
    inner: nn.Module = module.module if isinstance(module, DistributedDataParallel) else module
    return inner


def warn_alone() -> None:
    """Warn that without ``gather`` every process trains its own student."""
    if process_count() > 1:
        warn(
            f"the generator is trained by {process_count()} processes, but each trains its own "
            "student, with the same synthetic classes and noise; attach(gather=True) shares one"
        )


def same_start(module: nn.Module) -> None:
    """All processes take rank 0's weights: one seed may give different bits on different GPUs."""
    if process_count() > 1:
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, src=0)


def average(gradients: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The mean over processes, in one message, as DDP does for its parameters."""
    if process_count() == 1 or not gradients:
        return tuple(gradients)
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = (flat / process_count()).split([gradient.numel() for gradient in gradients])
    return tuple(p.view_as(g).to(g.dtype) for p, g in zip(parts, gradients, strict=True))


def agree(good: Tensor) -> Tensor:
    """Whether ``good`` is true in every process; 0-dim bool."""
    if process_count() == 1:
        return good
    everywhere = good.long()
    dist.all_reduce(everywhere, op=dist.ReduceOp.MIN)
    return everywhere.bool()


def check_same_generator(generator: nn.Module, step: int) -> None:
    """Check that the generator's parameters are still the same in every process.

    DDP silently averages nothing in a backward without its forward. Checked in steps 1, 2, 4, 8, …,
    which finds this early and costs nothing later.

    Raises:
        HostError: in every process; names the parameters that differ.
    """
    if process_count() == 1 or step & (step - 1):
        return
    names = [name for name, _ in generator.named_parameters()]
    with torch.no_grad():
        own = torch.stack([p.sum(dtype=torch.float64) for p in generator.parameters()])
    sums = _everyones(own)
    same = torch.isclose(sums, sums[:1], rtol=1e-9, atol=1e-12, equal_nan=True).all(dim=0)
    differing = [name for name, equal in zip(names, same.tolist(), strict=True) if not equal]
    if differing:
        raise HostError(
            f"step {step}: the generator's {', '.join(differing[:5])} differ between processes. "
            "With DistributedDataParallel call d3.loss() after the host's forward pass and backward"
            " on the sum; without it average the gradients yourself. FSDP is not supported"
        )
