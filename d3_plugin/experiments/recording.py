"""What a run records beside its scores: D³'s terms over the training, and some features."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d3_plugin.hooks.describe import describe_trainer
from d3_plugin.hooks.manager import make_manager
from d3_plugin.hooks.specs import hookimpl
from d3_plugin.hosts.isolation import RandomStream
from d3_plugin.hosts.module_state import eval_mode
from d3_plugin.hosts.synthesis import synthesize
from d3_plugin.report.rows import History, Projection

CLASSES, ROWS = 4, 12
"""How many classes of each domain a projection shows, and rows of each class."""


class TermRecorder:
    """A plugin that records means of ``D3.values`` as often as the host records its losses.

    Sums stay on the device until an entry is closed: a GPU need not wait in every step.

    Args:
        trainer: its ``history`` tells when an entry ends.

    Attributes:
        history: the finished entries.
    """

    def __init__(self, trainer: Any) -> None:
        self.history: History = []
        self._trainer, self._entry = trainer, 0
        self._sums: dict[str, tuple[Tensor, int]] = {}

    @hookimpl
    def d3_after_step(self, values: dict[str, Tensor]) -> None:
        self.close()
        if not self._sums:  # it belongs to the entry that the host makes next
            self._entry = len(self._trainer.history)
        for name, value in values.items():
            total, steps = self._sums.get(name, (torch.zeros_like(value), 0))
            self._sums[name] = total + value, steps + 1

    def close(self) -> None:
        """End the entry if the host has ended its own."""
        of_host = self._trainer.history
        if self._sums and len(of_host) > self._entry:
            means = {name: (total / n).item() for name, (total, n) in self._sums.items()}
            self.history.append({"step": of_host[self._entry]["step"], **means})
            self._sums = {}


def project(trainer: Any, seed: int, plugins: Iterable[object] = ()) -> Projection:
    """Two principal components of real and of synthetic rows of some classes.

    The components are those of the real rows, which are the same with and without D³. Global random
    streams stay where they are.

    Args:
        trainer: a trained host.
        seed: of the noise.
        plugins: as in :func:`d3_plugin.evaluate`.

    Returns:
        ``classes``, up to :data:`CLASSES` unseen ids, then as many seen ones; ``real`` and
        ``synthetic``: for each of them up to :data:`ROWS` pairs of coordinates.
    """
    from sklearn.decomposition import PCA

    manager = make_manager(plugins)
    host = describe_trainer(manager, trainer)
    data = host.data
    features = torch.cat([data.test_unseen_features, data.train_features]).cpu()
    labels = torch.cat([data.test_unseen_labels, data.train_labels]).cpu()
    chosen = torch.cat([_some(data.test_unseen_labels), _some(data.train_labels)])
    real = [features[labels == each][:ROWS] for each in chosen]
    with RandomStream(seed, host.device, "projection"), eval_mode(host.modules):
        wanted = chosen.repeat_interleave(ROWS).to(host.device)
        rows = synthesize(host, manager.hook, wanted, differentiable=False)
    pca = PCA(2, svd_solver="full").fit(torch.cat(real).double().numpy())

    def coordinates(of_classes: Iterable[Tensor]) -> list[Any]:
        # Not by transform(), which refuses the NaN of a training that diverged.
        moved = (rows.cpu().double().numpy() - pca.mean_ for rows in of_classes)
        return [np.round(rows @ pca.components_.T, 4).tolist() for rows in moved]

    return {
        "classes": chosen.tolist(),
        "real": coordinates(real),
        "synthetic": coordinates(rows.split(ROWS)),
    }


def _some(labels: Tensor) -> Tensor:
    """Up to :data:`CLASSES` of the ids in labels (N,), evenly spaced."""
    ids: Tensor = labels.cpu().unique()
    return ids[torch.linspace(0, len(ids) - 1, min(len(ids), CLASSES)).round().long()]
