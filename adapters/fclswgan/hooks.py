"""How an f-CLSWGAN synthesises features and trains its final classifier."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from d3_adapters.fclswgan.trainer import FCLSWGANSettings, FCLSWGANTrainer
from d3_plugin.data import GZSLData
from d3_plugin.hooks.specs import hookimpl
from d3_plugin.hosts.host import Host, HostFamily, Scorer

SEARCH = {
    "lr": [1e-4, 3e-4, 1e-3],
    "synthetic_per_class": [50, 100, 200, 400, 800],
    "classifier_epochs": [10, 25, 50],
    "classifier_lr": [3e-4, 1e-3, 3e-3],
}


def _build(
    data: GZSLData, settings: FCLSWGANSettings, seed: int, device: torch.device
) -> FCLSWGANTrainer:
    return FCLSWGANTrainer(data, settings, seed=seed, device=device)


@hookimpl
def d3_host_families() -> list[HostFamily]:
    summary = "WGAN-GP with a classification loss (Xian et al., CVPR 2018)"
    return [HostFamily("fclswgan", summary, FCLSWGANSettings, _build, SEARCH)]


@hookimpl
def d3_describe_host(trainer: Any) -> Host | None:
    if not isinstance(trainer, FCLSWGANTrainer):
        return None
    return Host(
        "fclswgan",
        trainer.generator,
        trainer.generator_optimizer,
        trainer.data,
        trainer=trainer,
        synthetic_per_class=trainer.settings.synthetic_per_class,
    )


@hookimpl
def d3_synthesize_features(host: Host, class_ids: Tensor, differentiable: bool) -> Tensor | None:
    if host.name != "fclswgan":
        return None
    return host.trainer.synthesize(class_ids)


@hookimpl
def d3_train_classifier(
    host: Host, features: Tensor, labels: Tensor, num_classes: int
) -> Scorer | None:
    if host.name != "fclswgan":
        return None
    return host.trainer.train_classifier(features, labels)
