"""The toy data and toy hosts of all tests."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import d3_plugin
from d3_plugin import D3, D3Settings
from d3_plugin.data import GZSLData
from d3_plugin.hosts.loop_calls import Watcher

SMALL = D3Settings(
    weight=0.5,
    embedding_dim=16,
    synthetic_rows=10,
    real_rows=12,
    student_start="teacher",  # from attributes it would know the toy classes at once
    teacher_lr=1e-2,
    teacher_epochs=30,  # it knows the toy classes then
)
WEIGHT_ZERO = replace(SMALL, weight=0.0)


def toy_problem(seen: Sequence[int] = (0, 2, 3, 5), unseen: Sequence[int] = (1, 4)) -> GZSLData:
    """A :func:`linear_problem` in [0, 1]."""
    return linear_problem(seen, unseen).scaled()


def linear_problem(
    seen: Sequence[int], unseen: Sequence[int], *, per_class: int = 20, spread: float = 0.03
) -> GZSLData:
    """12 features, with class means linear in 5 attributes and normal rows around them."""
    rng = np.random.default_rng(0)
    attributes = rng.random((len(seen) + len(unseen), 5))
    centres = attributes @ rng.random((5, 12)) / 3

    def rows(classes: Sequence[int], number: int) -> tuple[Tensor, Tensor]:
        labels = np.repeat(classes, number)
        features = centres[labels] + spread * rng.standard_normal((len(labels), 12))
        return torch.from_numpy(features).float(), torch.from_numpy(labels)

    return GZSLData(
        "toy",
        *rows(seen, per_class),
        *rows(seen, 6),
        *rows(unseen, 10),
        attributes=torch.from_numpy(attributes).float(),
        seen_classes=torch.tensor(seen),
        unseen_classes=torch.tensor(unseen),
        class_names=tuple("abcdefghijklmnopqrstuvwxyz"[: len(attributes)]),
    )


class PlainGenerator(nn.Module):
    """``generator(noise, attributes)`` without buffers or random numbers of its own."""

    def __init__(self, noise_dim: int = 5, attribute_dim: int = 5, feature_dim: int = 12) -> None:
        super().__init__()
        self.hidden = nn.Linear(noise_dim + attribute_dim, 8)
        self.out = nn.Linear(8, feature_dim)

    def forward(self, noise: Tensor, attributes: Tensor) -> Tensor:
        h = self.hidden(torch.cat([noise, attributes], dim=1))
        return torch.sigmoid(self.out(torch.relu(h)))


class NoticingGenerator(nn.Module):
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


class FeedbackGenerator(nn.Module):
    """Attributes are not the second argument, and an activation is kept with its graph."""

    def __init__(self, noise_dim: int, attribute_dim: int, feature_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(noise_dim + attribute_dim, 16)
        self.fc3 = nn.Linear(16, feature_dim)

    def forward(
        self,
        z: Tensor,
        a1: float | None = None,
        c: Tensor | None = None,
        feedback_layers: Tensor | None = None,
    ) -> Tensor:
        self.out = F.leaky_relu(self.fc1(torch.cat([z, c], dim=-1)), 0.2, inplace=True)
        h = self.out if feedback_layers is None else self.out + a1 * feedback_layers
        return torch.sigmoid(self.fc3(h))


class Decoder(nn.Module):
    """Attributes of features; its hidden layer is the feedback."""

    def __init__(self, attribute_dim: int, feature_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(feature_dim, 16)
        self.fc3 = nn.Linear(16, attribute_dim)

    def forward(self, features: Tensor) -> Tensor:
        self.hidden = F.leaky_relu(self.fc1(features), 0.2, inplace=True)
        return F.normalize(self.fc3(self.hidden), dim=1)


class ScriptHost:
    """A GAN script of the field, with everything that could notice D³ beside it.

    Buffers are overwritten by ``copy_``, flags toggled, gradients zeroed by module.
    """

    def __init__(self, data: GZSLData, seed: int = 0, device: torch.device | str = "cpu") -> None:
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - scripts do
        random.seed(seed)
        self.data = data.to(device)
        attribute_dim = data.attributes.shape[1]
        self.net_g = NoticingGenerator(attribute_dim, data.feature_dim).to(device)
        self.net_d = nn.Linear(data.feature_dim + attribute_dim, 1).to(device)
        self.optimizer_g = torch.optim.Adam(self.net_g.parameters(), lr=1e-3)
        self.optimizer_d = torch.optim.Adam(self.net_d.parameters(), lr=1e-3)
        self.input_res = torch.zeros(8, data.feature_dim, device=device)
        self.input_label = torch.zeros(8, dtype=torch.long, device=device)
        self.outputs: list[Tensor] = []

    def sample(self) -> None:
        order = np.random.permutation(len(self.data.train_labels))  # noqa: NPY002
        rows = torch.from_numpy(order[:8]).to(self.input_res.device)
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
        (-self.criticise(self.input_res)).backward()
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
        if self.input_res.is_cuda:
            state["cuda"] = torch.cuda.get_rng_state(self.input_res.device)
        state["numpy"] = torch.from_numpy(np.random.get_state()[1].astype(np.int64))  # noqa: NPY002
        state["python"] = torch.tensor(random.getstate()[1])
        return {k: v.detach().clone() for k, v in state.items()}

    def traces(self) -> list[object]:
        """Flags, modes and hooks of every module and optimiser, but for the one that looks on."""
        modules = [m for net in (self.net_g, self.net_d) for m in net.modules()]
        flags = [p.requires_grad for net in (self.net_g, self.net_d) for p in net.parameters()]
        hooks = [
            (
                len(m._forward_hooks),
                sum(not isinstance(hook, Watcher) for hook in m._forward_pre_hooks.values()),
                len(m._backward_hooks),
            )
            for m in modules
        ]
        steps = [
            (len(o._optimizer_step_pre_hooks), len(o._optimizer_step_post_hooks), o.step.__func__)
            for o in (self.optimizer_g, self.optimizer_d)
        ]
        return [flags, [m.training for m in modules], hooks, steps]


class VAEHost:
    """A VAE-GAN script of the field: no labels, a feedback path, five optimisers."""

    def __init__(self, data: GZSLData) -> None:
        torch.manual_seed(0)
        self.data = data
        self.attribute = F.normalize(data.attributes, dim=1)
        a, d = data.attributes.shape[1], data.feature_dim
        self.net_e = nn.Linear(d + a, 2 * a)
        self.net_g = FeedbackGenerator(a, a, d)
        self.net_d = nn.Linear(d + a, 1)
        self.net_f = nn.Linear(16, 16)
        self.net_dec = Decoder(a, d)
        nets = (self.net_e, self.net_g, self.net_d, self.net_f, self.net_dec)
        self.nets = dict(zip("egdfc", nets, strict=True))
        self.optimizers = {k: torch.optim.Adam(n.parameters(), 1e-3) for k, n in self.nets.items()}
        self.optimizer_g = self.optimizers["g"]
        self.input_res = torch.empty(8, d)
        self.input_att = torch.empty(8, a)
        self.printed: list[float] = []

    def sample(self) -> None:
        rows = torch.randperm(len(self.data.train_labels))[:8]
        self.input_res.copy_(self.data.train_features[rows])
        self.input_att.copy_(self.attribute[self.data.train_labels[rows]])

    def feedback(self, z: Tensor, att: Tensor) -> Tensor:
        self.net_dec(self.net_g(z, c=att))
        return self.net_g(
            z, a1=0.5, c=att, feedback_layers=self.net_f(self.net_dec.hidden.detach())
        )

    def synthesize(self, class_ids: Tensor, attributes: Tensor) -> Tensor:
        return self.feedback(torch.randn_like(attributes), F.normalize(attributes, dim=1))

    def critic_step(self) -> None:
        for net in (self.net_d, self.net_dec):
            net.requires_grad_(True)
        self.sample()
        self.net_d.zero_grad()
        self.net_dec.zero_grad()
        (self.net_dec(self.input_res) - self.input_att).abs().mean().backward()
        self.optimizers["c"].step()
        fake = self.net_g(torch.randn_like(self.input_att), c=self.input_att).detach()
        for sign, rows in ((-1.0, self.input_res), (1.0, fake)):
            self.net_d(torch.cat([rows, self.input_att], 1)).mean().backward(torch.tensor(sign))
        self.optimizers["d"].step()

    def generator_loss(self) -> tuple[Tensor, Tensor]:
        """The loss so far, and the VAE's: the same tensor, since ``+=`` works in place."""
        for net in (self.net_d, self.net_dec):
            net.requires_grad_(False)
        for name in "egf":
            self.nets[name].zero_grad()
        mean, log_var = self.net_e(torch.cat([self.input_res, self.input_att], 1)).chunk(2, 1)
        recon = self.feedback(torch.randn_like(mean) * (0.5 * log_var).exp() + mean, self.input_att)
        vae_loss = (
            F.mse_loss(recon, self.input_res) + (mean.pow(2) + log_var.exp() - log_var).mean()
        )
        loss = vae_loss
        loss += -self.net_d(torch.cat([recon, self.input_att], 1)).mean()
        loss += (self.net_dec(recon) - self.input_att).abs().mean()
        return loss, vae_loss

    def run(self, steps: int, d3: D3 | None = None) -> None:
        for _ in range(steps):
            self.critic_step()
            loss, vae_loss = self.generator_loss()
            if d3 is not None:
                loss = loss + d3.loss(features=self.input_res, attributes=self.input_att)
            loss.backward()
            for name in "egf":
                self.optimizers[name].step()
            self.printed.append(vae_loss.item())

    def state(self) -> dict[str, Tensor]:
        nets = {f"{k}.{n}": v for k, net in self.nets.items() for n, v in net.state_dict().items()}
        return {k: v.clone() for k, v in (nets | {"stream": torch.get_rng_state()}).items()}

    def attach(self, weight: float = 0.5, **options: Any) -> D3:
        """With the feedback."""
        parts = {"synthesize": self.synthesize, "modules": [self.net_f, self.net_dec]}
        return attach(self, replace(SMALL, weight=weight), **(parts | options))


def attach(host: ScriptHost | VAEHost, settings: D3Settings = SMALL, **options: Any) -> D3:
    """To the generator of a toy host; ``options`` replace its parts too."""
    parts = {"generator": host.net_g, "optimizer": host.optimizer_g, "data": host.data}
    return d3_plugin.attach(**(parts | {"settings": settings, "seed": 7} | options))


def parts_of(generator: nn.Module, data: GZSLData) -> dict[str, Any]:
    """What ``attach`` needs to know of a script with this generator."""
    optimizer = torch.optim.Adam(generator.parameters())
    return {"generator": generator, "optimizer": optimizer, "data": data, "settings": SMALL}


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Bit for bit."""
    assert one.keys() == other.keys()
    differing = [k for k in one if not torch.equal(one[k], other[k])]
    assert differing == []
