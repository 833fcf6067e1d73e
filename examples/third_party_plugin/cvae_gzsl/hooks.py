"""What d3_plugin asks an adapter; ``setup.cfg`` names this module as an entry point."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvae_gzsl.anchors import anchor_loss, anchors
from cvae_gzsl.classifier import gaussian_classifier
from cvae_gzsl.trainer import CVAESettings, CVAETrainer
from d3_plugin import Host, HostFamily, StepBatch, hookimpl
from d3_plugin.data import GZSLData
from d3_plugin.hosts.host import Scorer


def _build(data: GZSLData, settings: CVAESettings, seed: int, device: torch.device) -> CVAETrainer:
    return CVAETrainer(data, settings, seed=seed, device=device)


@hookimpl
def d3_host_families() -> list[HostFamily]:
    summary = "conditional VAE with a Gaussian discriminant (a third party's example)"
    return [HostFamily("cvae", summary, CVAESettings, _build)]


@hookimpl
def d3_describe_host(trainer: Any) -> Host | None:
    if not isinstance(trainer, CVAETrainer):
        return None
    return Host(
        "cvae",
        trainer.generator,
        trainer.optimizer,
        trainer.data,
        trainer=trainer,
        synthetic_per_class=trainer.settings.synthetic_per_class,
    )


@hookimpl
def d3_synthesize_features(host: Host, class_ids: Tensor) -> Tensor:
    return host.trainer.synthesize(class_ids)


@hookimpl
def d3_train_classifier(host: Host, features: Tensor, labels: Tensor, num_classes: int) -> Scorer:
    return gaussian_classifier(features, labels, num_classes)


@hookimpl
def d3_extra_terms(host: Host, batch: StepBatch) -> dict[str, Tensor]:
    if host.trainer.settings.anchor_weight == 0:
        return {}
    s, n = host.trainer.settings, batch.num_synthetic
    targets = anchors(host.data, s.anchor_temperature)
    return {"anchor": s.anchor_weight * anchor_loss(batch.features[:n], batch.labels[:n], targets)}
