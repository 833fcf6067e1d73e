"""A problem and a generator whose calls are watched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from d3_plugin.data import load
from d3_plugin.hosts.call_form import CallForm
from d3_plugin.hosts.loop_form import LoopForm

Z = 10
NOISE = "noise (N, 10) of normal(0, 1)"


class Anything(nn.Module):
    """Takes whatever a loop passes, and keeps the last of it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        self.last = args, kwargs
        return self.weight


class Problem:
    """Digits with real-valued attributes as wide as a noise vector may be."""

    def __init__(self, attributes: Tensor) -> None:
        self.data = replace(load("digits"), attributes=attributes)
        self.net = Anything()
        self.calls = LoopForm(self.net, self.data)

    def batch(self, rows: int = 64) -> tuple[Tensor, Tensor]:
        """Class ids of seen classes and their attributes."""
        ids = self.data.train_labels[torch.randint(len(self.data.train_labels), (rows,))]
        return ids, self.data.attributes[ids]

    def form(self) -> CallForm:
        form = self.calls.form(now=True)
        assert form is not None
        return form
