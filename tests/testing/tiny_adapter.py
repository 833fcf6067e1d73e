"""The smallest good adapter: the broken ones differ from it in one thing each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from d3_plugin import Host, HostFamily, hookimpl
from d3_plugin.data import GZSLData
from d3_plugin.hosts.host import Scorer


@dataclass(frozen=True)
class TinySettings:
    steps: int = 3


class TinyTrainer:
    """Regresses features on noise and attributes."""

    def __init__(self, data: GZSLData, seed: int, steps: int = 3) -> None:
        torch.manual_seed(seed)
        self.data, self.steps = data, steps
        attribute_dim = data.attributes.shape[1]
        self.generator = nn.Sequential(
            nn.Linear(2 * attribute_dim, 8), nn.LeakyReLU(), nn.Linear(8, data.feature_dim)
        )
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=1e-3)
        self.history: list[dict[str, float]] = []

    def fit(self) -> None:
        for step in range(1, self.steps + 1):
            rows = torch.randint(len(self.data.train_labels), (16,))
            made = self.synthesize(self.data.train_labels[rows])
            loss = (made - self.data.train_features[rows]).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.history.append({"step": step, "error": loss.item()})

    def synthesize(self, ids: Tensor) -> Tensor:
        attributes = self.data.attributes[ids]
        return self.generator(torch.cat([torch.randn_like(attributes), attributes], dim=1))


class TinyHooks:
    """Its hooks. ``rows``, ``transform`` and ``classify`` are what broken adapters override."""

    trainer: type[TinyTrainer] = TinyTrainer
    settings: Any = TinySettings
    family = "tiny"
    family_settings: dict[str, Any] | None = {"steps": 2}  # noqa: RUF012 - never changed

    def build(self, data: GZSLData, seed: int) -> TinyTrainer:
        return self.trainer(data, seed)

    def describe(self, trainer: TinyTrainer) -> Any:
        return Host("tiny", trainer.generator, trainer.optimizer, trainer.data, trainer=trainer)

    def rows(self, trainer: TinyTrainer, ids: Tensor, differentiable: bool) -> Tensor:
        return trainer.synthesize(ids)

    def transform(self, trainer: TinyTrainer, features: Tensor) -> Tensor:
        return torch.cat([features, features.square()], dim=1)

    def classify(
        self, trainer: TinyTrainer, features: Tensor, labels: Tensor, num_classes: int
    ) -> Any:
        """Nearest class mean."""
        means = torch.stack([features[labels == c].mean(dim=0) for c in range(num_classes)])
        return lambda rows: -torch.cdist(rows, means)

    @hookimpl
    def d3_host_families(self) -> list[HostFamily]:
        def build(data: GZSLData, settings: Any, seed: int, device: torch.device) -> TinyTrainer:
            return self.trainer(data, seed, settings.steps)

        return [HostFamily(self.family, "a regression", self.settings, build)]

    @hookimpl
    def d3_describe_host(self, trainer: Any) -> Host | None:
        return self.describe(trainer) if isinstance(trainer, TinyTrainer) else None

    @hookimpl
    def d3_synthesize_features(self, host: Host, class_ids: Tensor, differentiable: bool) -> Tensor:
        return self.rows(host.trainer, class_ids, differentiable)

    @hookimpl
    def d3_transform_features(self, host: Host, features: Tensor) -> Tensor:
        return self.transform(host.trainer, features)

    @hookimpl
    def d3_train_classifier(
        self, host: Host, features: Tensor, labels: Tensor, num_classes: int
    ) -> Scorer:
        return self.classify(host.trainer, features, labels, num_classes)
