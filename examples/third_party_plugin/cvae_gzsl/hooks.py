"""The hooks of the adapter; ``setup.cfg`` names this module as an entry point."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from cvae_gzsl.anchors import anchor_loss, anchors
from cvae_gzsl.trainer import CVAESettings, CVAETrainer
from d3_plugin import Host, HostFamily, StepBatch, hookimpl
from d3_plugin.hosts.host import Scorer


@hookimpl
def d3_host_families() -> list[HostFamily]:
    summary = "conditional VAE with a Gaussian discriminant (a third party's example)"
    return [HostFamily("cvae", summary, CVAESettings, CVAETrainer)]


@hookimpl
def d3_describe_host(trainer: Any) -> Host | None:
    if not isinstance(trainer, CVAETrainer):
        return None  # not ours: another plugin may know it
    return Host(
        "cvae",
        trainer.generator,
        trainer.optimizer,
        trainer.data,
        trainer=trainer,
        synthetic_per_class=trainer.settings.synthetic_per_class,
    )


# D³ calls the following hooks only for hosts that d3_describe_host above has recognised.


@hookimpl
def d3_synthesize_features(host: Host, class_ids: Tensor) -> Tensor:
    return host.trainer.synthesize(class_ids)


@hookimpl
def d3_train_classifier(features: Tensor, labels: Tensor) -> Scorer:
    """A Gaussian discriminant; every class has rows, so its scores are (M, C)."""
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    model.fit(features.cpu().numpy(), labels.cpu().numpy())
    return lambda rows: torch.from_numpy(model.decision_function(rows.cpu().numpy())).to(rows)


@hookimpl
def d3_extra_terms(host: Host, batch: StepBatch) -> dict[str, Tensor]:
    s, n = host.trainer.settings, batch.num_synthetic
    if s.anchor_weight == 0:
        return {}
    targets = anchors(host.data, s.anchor_temperature)
    return {"anchor": s.anchor_weight * anchor_loss(batch.features[:n], batch.labels[:n], targets)}
