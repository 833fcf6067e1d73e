"""How a TF-VAEGAN synthesises features, transforms them and trains its final classifier."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from d3_plugin.hooks.specs import hookimpl
from d3_plugin.hosts.host import Host, HostFamily, Scorer

from ..training import SEARCH
from .trainer import TFVAEGANSettings, TFVAEGANTrainer


@hookimpl
def d3_host_families() -> list[HostFamily]:
    summary = "VAE-GAN with semantic feedback (Narayan et al., ECCV 2020)"
    search = {**SEARCH, "lr": [1e-4, 3e-4, 6e-4, 1e-3]}
    return [HostFamily("tfvaegan", summary, TFVAEGANSettings, TFVAEGANTrainer, search)]


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
def d3_synthesize_features(host: Host, class_ids: Tensor) -> Tensor:
    trainer: TFVAEGANTrainer = host.trainer
    return trainer.synthesize(class_ids)


@hookimpl
def d3_transform_features(host: Host, features: Tensor) -> Tensor:
    trainer: TFVAEGANTrainer = host.trainer
    return trainer.transform(features)


@hookimpl
def d3_train_classifier(host: Host, features: Tensor, labels: Tensor) -> Scorer:
    trainer: TFVAEGANTrainer = host.trainer
    return trainer.train_classifier(features, labels)
