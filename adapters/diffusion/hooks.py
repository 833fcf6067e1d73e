"""How a diffusion generator synthesises features and trains its final classifier."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from d3_plugin.hooks.specs import hookimpl
from d3_plugin.hosts.host import Host, HostFamily, Scorer

from ..training import SEARCH
from .trainer import DiffusionSettings, DiffusionTrainer


@hookimpl
def d3_host_families() -> list[HostFamily]:
    summary = "conditional diffusion of residuals over a ridge attribute-to-feature mean, DDIM"
    return [HostFamily("diffusion", summary, DiffusionSettings, DiffusionTrainer, SEARCH)]


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
        interval=10,  # a denoising step is as short as one of D³; a GAN's has five critic steps
    )


@hookimpl
def d3_synthesize_features(host: Host, class_ids: Tensor, differentiable: bool) -> Tensor:
    trainer: DiffusionTrainer = host.trainer
    return trainer.synthesize(class_ids, differentiable)


@hookimpl
def d3_train_classifier(host: Host, features: Tensor, labels: Tensor) -> Scorer:
    trainer: DiffusionTrainer = host.trainer
    return trainer.train_classifier(features, labels)
