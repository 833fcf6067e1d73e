"""A GAN script of the field in miniature, with everything that could notice D³ beside it."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor, nn

import d3_plugin
from d3_plugin import D3, D3Settings
from d3_plugin.data import GZSLData


class Generator(nn.Module):
    """Batch norm has buffers that a forward pass moves; dropout draws from the global stream."""

    def __init__(self, attribute_dim: int, feature_dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * attribute_dim, 16)
        self.norm = nn.BatchNorm1d(16)
        self.drop = nn.Dropout(0.2)
        self.out = nn.utils.parametrizations.spectral_norm(nn.Linear(16, feature_dim))

    def forward(self, noise: Tensor, att: Tensor) -> Tensor:
        h = self.norm(self.hidden(torch.cat([noise, att], dim=1)))
        return torch.sigmoid(self.out(self.drop(torch.relu(h))))


class ScriptHost:
    """Buffers overwritten by ``copy_``, flags toggled, ``zero_grad`` by module."""

    def __init__(self, data: GZSLData, seed: int = 0) -> None:
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - scripts do
        random.seed(seed)
        self.data = data
        attribute_dim = data.attributes.shape[1]
        self.net_g = Generator(attribute_dim, data.feature_dim)
        self.net_d = nn.Linear(data.feature_dim + attribute_dim, 1)
        self.optimizer_g = torch.optim.Adam(self.net_g.parameters(), lr=1e-3)
        self.optimizer_d = torch.optim.Adam(self.net_d.parameters(), lr=1e-3)
        self.input_res = torch.zeros(8, data.feature_dim)
        self.input_label = torch.zeros(8, dtype=torch.long)
        self.outputs: list[Tensor] = []

    def sample(self) -> None:
        rows = torch.from_numpy(np.random.permutation(len(self.data.train_labels))[:8])  # noqa: NPY002
        self.input_res.copy_(self.data.train_features[rows])
        self.input_label.copy_(self.data.train_labels[rows])

    def fake(self) -> Tensor:
        att = self.data.attributes[self.input_label]
        return self.net_g(torch.randn_like(att), att)

    def criticise(self, features: Tensor) -> Tensor:
        return self.net_d(torch.cat([features, self.data.attributes[self.input_label]], 1)).mean()

    def critic_step(self) -> None:
        self.net_d.requires_grad_(True)
        self.sample()
        self.net_d.zero_grad()
        self.criticise(self.input_res).backward(torch.tensor(-1.0))
        self.criticise(self.fake().detach()).backward()
        self.optimizer_d.step()

    def generator_loss(self) -> Tensor:
        self.net_d.requires_grad_(False)
        self.net_g.zero_grad()
        return -self.criticise(self.fake()) * random.uniform(0.9, 1.1)

    def run(self, steps: int, d3: D3 | None = None) -> None:
        """``d3`` is used in the explicit form; leave it out for ``mode="hook"``."""
        for _ in range(steps):
            self.critic_step()
            loss = self.generator_loss()
            if d3 is not None:
                loss = loss + d3.loss(features=self.input_res, labels=self.input_label)
            self.sample()  # the batch is gone before backward
            loss.backward()
            self.optimizer_g.step()
            self.outputs.append(loss.detach().clone())

    def state(self) -> dict[str, Tensor]:
        """Everything that a bit-identical run must have equal, global streams included."""
        state = {f"g.{k}": v for k, v in self.net_g.state_dict().items()}
        state |= {f"d.{k}": v for k, v in self.net_d.state_dict().items()}
        for i, s in self.optimizer_g.state_dict()["state"].items():
            state |= {f"adam.{i}.{k}": v for k, v in s.items()}
        state["torch"] = torch.get_rng_state()
        state["numpy"] = torch.from_numpy(np.random.get_state()[1].astype(np.int64))  # noqa: NPY002
        state["python"] = torch.tensor(random.getstate()[1])
        return {k: v.detach().clone() for k, v in state.items()}

    def traces(self) -> list[object]:
        """Flags, modes and hooks of every module and optimiser."""
        modules = [m for net in (self.net_g, self.net_d) for m in net.modules()]
        flags = [p.requires_grad for net in (self.net_g, self.net_d) for p in net.parameters()]
        hooks = [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for m in modules
        ]
        steps = [
            (len(o._optimizer_step_pre_hooks), len(o._optimizer_step_post_hooks), o.step.__func__)
            for o in (self.optimizer_g, self.optimizer_d)
        ]
        return [flags, [m.training for m in modules], hooks, steps]


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Bit for bit."""
    assert one.keys() == other.keys()
    differing = [k for k in one if not torch.equal(one[k], other[k])]
    assert differing == []


SMALL = D3Settings(embedding_dim=8, teacher_epochs=3, synthetic_rows=10, real_rows=12, weight=0.5)


def attach(host: ScriptHost, settings: D3Settings = SMALL, **options: object) -> D3:
    return d3_plugin.attach(
        generator=host.net_g,
        optimizer=host.optimizer_g,
        data=host.data,
        settings=settings,
        seed=7,
        **options,
    )


def weight_zero() -> D3Settings:
    return D3Settings(embedding_dim=8, teacher_epochs=3, weight=0.0)
