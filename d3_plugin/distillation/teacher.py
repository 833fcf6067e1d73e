"""The teacher's pre-training on real rows of the seen classes."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from d3_plugin.distillation.networks import EmbeddingClassifier
from d3_plugin.errors import InputError
from d3_plugin.hosts.isolation import global_streams, set_global_streams

_HELD_BACK = 0.1
_BATCH_SIZE = 64
_STEPS = 2000  # at most: with many rows the best epoch comes sooner
_KEPT = 2**28  # bytes of weights: some 20 teachers of SUN's size


@dataclass(frozen=True, eq=False)
class _Pretrained:
    """What a training made: the teacher, its held-out losses, and where it left the streams."""

    teacher: EmbeddingClassifier
    losses: list[float]
    streams: dict[str, Any]


_pretrained: dict[bytes, _Pretrained] = {}  # the one used last comes last


def pretrain_teacher(
    features: Tensor,
    labels: Tensor,
    num_seen: int,
    *,
    embedding_dim: int = 1024,
    lr: float = 1e-3,
    max_epochs: int = 50,
    patience: int = 5,
    on_epoch: Callable[[int, float], None] | None = None,
) -> EmbeddingClassifier:
    """Cross-entropy training (:math:`L_{pre}` of D3GZSL) with early stopping.

    A stratified tenth of the rows is held out (a random tenth if a class has a single row).
    Training stops if the held-out loss has not fallen for ``patience`` epochs, or if another epoch
    would take it past 2,000 steps; the first epoch ends there. The weights of the best epoch are
    kept. Random numbers come from PyTorch's global stream. A teacher of the same rows, options and
    random state is trained once in a process: the next call gets a copy, and leaves the stream
    where the training left it.

    Args:
        features: (N, D) float, rows of seen classes, finite.
        labels: (N,) int64 in 0..num_seen-1.
        num_seen: S.
        embedding_dim: K.
        lr: of Adam.
        max_epochs, patience: of early stopping.
        on_epoch: called with the epoch and the held-out loss.

    Returns:
        The teacher in eval mode with ``requires_grad`` off.

    Raises:
        InputError: the teacher diverges in its first epoch.
    """
    device, report = features.device, on_epoch or (lambda epoch, loss: None)
    options = (num_seen, embedding_dim, lr, max_epochs, patience)
    key = _digest(features, labels, options, global_streams(device))
    found = _pretrained.pop(key, None)
    if found is None:
        found = _train(features, labels, num_seen, embedding_dim, lr, max_epochs, patience, report)
    else:
        set_global_streams(found.streams, device)
        for epoch, loss in enumerate(found.losses):
            report(epoch, loss)
    _pretrained[key] = found
    while len(_pretrained) > 1 and sum(map(_size, _pretrained.values())) > _KEPT:
        del _pretrained[next(iter(_pretrained))]
    return copy.deepcopy(found.teacher)


def _digest(features: Tensor, labels: Tensor, options: object, streams: dict[str, Any]) -> bytes:
    """Of everything that the teacher's weights depend on, to the last bit."""
    surroundings = features.device, torch.get_num_threads(), torch.get_default_dtype()
    found = hashlib.blake2b(repr((features.dtype, *features.shape, options, surroundings)).encode())
    for part in (features, labels, *streams.values()):
        if isinstance(part, Tensor):
            found.update(part.detach().cpu().contiguous().numpy().data)
        else:
            found.update(repr(part).encode())
    return found.digest()


def _size(pretrained: _Pretrained) -> int:
    return sum(p.numel() * p.element_size() for p in pretrained.teacher.parameters())


def _train(
    features: Tensor,
    labels: Tensor,
    num_seen: int,
    embedding_dim: int,
    lr: float,
    max_epochs: int,
    patience: int,
    on_epoch: Callable[[int, float], None],
) -> _Pretrained:
    train, held_back = _split(labels)
    teacher = EmbeddingClassifier(features.shape[1], embedding_dim, num_seen).to(features)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=lr, fused=True)
    losses: list[float] = []
    best_loss, best_state, best_epoch = float("inf"), teacher.state_dict(), 0
    epochs = min(max_epochs, max(1, _STEPS * _BATCH_SIZE // len(train)))
    with torch.enable_grad():
        for epoch in range(epochs):
            order = train[torch.randperm(len(train), device=train.device)]
            for index in order.split(_BATCH_SIZE)[:_STEPS]:
                optimizer.zero_grad(set_to_none=True)
                F.cross_entropy(teacher(features[index])[0], labels[index]).backward()
                optimizer.step()
            with torch.no_grad():
                loss = F.cross_entropy(teacher(features[held_back])[0], labels[held_back]).item()
            losses.append(loss)
            on_epoch(epoch, loss)
            if loss < best_loss:
                best_loss, best_epoch = loss, epoch
                best_state = copy.deepcopy(teacher.state_dict())
            elif epoch - best_epoch >= patience:
                break
    if best_loss == float("inf"):
        raise InputError(f"the teacher diverged in its first epoch; lower teacher_lr from {lr}")
    teacher.load_state_dict(best_state)
    teacher.zero_grad(set_to_none=True)
    teacher.eval().requires_grad_(False)
    return _Pretrained(teacher, losses, global_streams(features.device))


def _split(labels: Tensor) -> tuple[Tensor, Tensor]:
    counts = labels.unique(return_counts=True)[1]
    held_back = max(_HELD_BACK, len(counts) / len(labels))  # at least one row per class
    stratified = bool(counts.min() > 1) and held_back < 0.5
    from sklearn.model_selection import train_test_split  # importing it takes half a second

    parts = train_test_split(
        range(len(labels)),
        test_size=held_back if stratified else _HELD_BACK,
        stratify=labels.cpu().numpy() if stratified else None,
        random_state=int(torch.randint(2**31, ())),
    )
    train, held = (torch.tensor(part, device=labels.device) for part in parts)
    return train, held
