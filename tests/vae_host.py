"""A VAE-GAN script of the field in miniature: no labels, a feedback path, five optimisers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import d3_plugin
from d3_plugin import D3, D3Settings
from d3_plugin.data import GZSLData

BATCH, HIDDEN = 8, 16


class Generator(nn.Module):
    """Attributes are not the second argument, and an activation is kept with its graph."""

    def __init__(self, attribute_dim: int, feature_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(2 * attribute_dim, HIDDEN)
        self.fc3 = nn.Linear(HIDDEN, feature_dim)

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
    def __init__(self, attribute_dim: int, feature_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(feature_dim, HIDDEN)
        self.fc3 = nn.Linear(HIDDEN, attribute_dim)

    def forward(self, features: Tensor) -> Tensor:
        self.hidden = F.leaky_relu(self.fc1(features), 0.2, inplace=True)
        return F.normalize(self.fc3(self.hidden), dim=1)


class VAEHost:
    """Encoder, generator, critic, feedback, decoder; each with an optimiser, zeroed by module."""

    def __init__(self, data: GZSLData) -> None:
        torch.manual_seed(0)
        self.data = data
        self.attribute = F.normalize(data.attributes, dim=1)
        a, d = data.attributes.shape[1], data.feature_dim
        self.net_e = nn.Linear(d + a, 2 * a)
        self.net_g = Generator(a, d)
        self.net_d = nn.Linear(d + a, 1)
        self.net_f = nn.Linear(HIDDEN, HIDDEN)
        self.net_dec = Decoder(a, d)
        nets = (self.net_e, self.net_g, self.net_d, self.net_f, self.net_dec)
        self.nets = dict(zip("egdfc", nets, strict=True))
        self.optimizers = {k: torch.optim.Adam(n.parameters(), 1e-3) for k, n in self.nets.items()}
        self.input_res = torch.empty(BATCH, d)
        self.input_att = torch.empty(BATCH, a)
        self.printed: list[float] = []

    def sample(self) -> None:
        rows = torch.randperm(len(self.data.train_labels))[:BATCH]
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
        fake = self.net_g(torch.randn(BATCH, self.input_att.shape[1]), c=self.input_att).detach()
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

    def attach(self, weight: float = 0.5, **options: object) -> D3:
        given = {
            "generator": self.net_g,
            "optimizer": self.optimizers["g"],
            "data": self.data,
            "settings": D3Settings(embedding_dim=8, teacher_epochs=30, weight=weight),
            "synthesize": self.synthesize,
            "modules": [self.net_f, self.net_dec],
        }
        return d3_plugin.attach(**(given | options))
