"""How a TF-VAEGAN synthesises features, transforms them and trains its final classifier."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from d3_adapters.tfvaegan.settings import TFVAEGANSettings
from d3_adapters.tfvaegan.trainer import TFVAEGANTrainer
from d3_plugin.data import GZSLData
from d3_plugin.hooks.specs import hookimpl
from d3_plugin.hosts.host import Host, HostFamily, Scorer

SEARCH = {
    "lr": [1e-4, 3e-4, 6e-4, 1e-3],
    "synthetic_per_class": [50, 100, 200, 400, 800],
    "classifier_epochs": [10, 25, 50],
    "classifier_lr": [3e-4, 1e-3, 3e-3],
}


def _build(
    data: GZSLData, settings: TFVAEGANSettings, seed: int, device: torch.device
) -> TFVAEGANTrainer:
    return TFVAEGANTrainer(data, settings, seed=seed, device=device)


@hookimpl
def d3_host_families() -> list[HostFamily]:
    summary = "VAE-GAN with semantic feedback (Narayan et al., ECCV 2020)"
    return [HostFamily("tfvaegan", summary, TFVAEGANSettings, _build, SEARCH)]


@hookimpl
def d3_describe_host(trainer: Any) -> Host | None:
    if not isinstance(trainer, TFVAEGANTrainer):
        return None
    return Host(
        "tfvaegan",
        trainer.generator,
        trainer.generator_optimizer,
        trainer.data,
        trainer=trainer,
        modules=(trainer.generator, trainer.decoder, trainer.feedback),
        synthetic_per_class=trainer.settings.synthetic_per_class,
    )


@hookimpl
def d3_synthesize_features(host: Host, class_ids: Tensor, differentiable: bool) -> Tensor | None:
    if host.name != "tfvaegan":
        return None
    return host.trainer.synthesize(class_ids)


@hookimpl
def d3_transform_features(host: Host, features: Tensor) -> Tensor | None:
    if host.name != "tfvaegan":
        return None
    return host.trainer.transform(features)


@hookimpl
def d3_train_classifier(
    host: Host, features: Tensor, labels: Tensor, num_classes: int
) -> Scorer | None:
    if host.name != "tfvaegan":
        return None
    return host.trainer.train_classifier(features, labels)
