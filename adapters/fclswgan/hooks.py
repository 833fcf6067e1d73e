"""How an f-CLSWGAN synthesises features and trains its final classifier."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from d3_plugin.hooks.specs import hookimpl
from d3_plugin.hosts.host import Host, HostFamily, Scorer

from ..training import SEARCH
from .trainer import FCLSWGANSettings, FCLSWGANTrainer


@hookimpl
def d3_host_families() -> list[HostFamily]:
    summary = "WGAN-GP with a classification loss (Xian et al., CVPR 2018)"
    return [HostFamily("fclswgan", summary, FCLSWGANSettings, FCLSWGANTrainer, SEARCH)]


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
def d3_synthesize_features(host: Host, class_ids: Tensor) -> Tensor:
    trainer: FCLSWGANTrainer = host.trainer
    return trainer.synthesize(class_ids)


@hookimpl
def d3_train_classifier(host: Host, features: Tensor, labels: Tensor) -> Scorer:
    trainer: FCLSWGANTrainer = host.trainer
    return trainer.train_classifier(features, labels)
