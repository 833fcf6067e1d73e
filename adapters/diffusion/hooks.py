"""How a diffusion generator synthesises features and trains its final classifier."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from d3_adapters.diffusion.settings import DiffusionSettings
from d3_adapters.diffusion.trainer import DiffusionTrainer
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
    data: GZSLData, settings: DiffusionSettings, seed: int, device: torch.device
) -> DiffusionTrainer:
    return DiffusionTrainer(data, settings, seed=seed, device=device)


@hookimpl
def d3_host_families() -> list[HostFamily]:
    summary = "conditional diffusion of residuals over a ridge attribute-to-feature mean, DDIM"
    return [HostFamily("diffusion", summary, DiffusionSettings, _build, SEARCH)]


# A denoising step is as short as one of D³, a GAN's has five critic steps in it.
_INTERVAL = 10


@hookimpl
def d3_describe_host(trainer: Any) -> Host | None:
    if not isinstance(trainer, DiffusionTrainer):
        return None
    return Host(
        "diffusion",
        trainer.generator,
        trainer.generator_optimizer,
        trainer.data,
        trainer=trainer,
        modules=(trainer.generator, trainer.ema_generator),
        synthetic_per_class=trainer.settings.synthetic_per_class,
        interval=_INTERVAL,
    )


@hookimpl
def d3_synthesize_features(host: Host, class_ids: Tensor, differentiable: bool) -> Tensor | None:
    if host.name != "diffusion":
        return None
    return host.trainer.synthesize(class_ids, differentiable)


@hookimpl
def d3_train_classifier(
    host: Host, features: Tensor, labels: Tensor, num_classes: int
) -> Scorer | None:
    if host.name != "diffusion":
        return None
    return host.trainer.train_classifier(features, labels)
