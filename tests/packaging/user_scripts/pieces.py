"""The parts alone: data, losses, functions, metrics."""

import numpy as np
import torch

from d3_plugin import DataError, ID2SDLoss, MissingExtraError, O2DBDLoss, StorageError, losses
from d3_plugin.data import (
    GZSLData,
    attributes_fit,
    digest,
    load_digits_gzsl,
    load_mat_folder,
    warn_of_order,
    without_test_rows,
)
from d3_plugin.evaluation import (
    GZSLMetrics,
    gzsl_metrics,
    harmonic_mean,
    ood_auroc,
    per_class_accuracy,
    seen_unseen_curve,
)
from d3_plugin.functional import (
    cosine_matrix,
    id_confidence,
    id_score,
    label_space_kl,
    relation_loss,
)

rows = np.random.default_rng(0).random((40, 8))
ids, seen = np.arange(40) % 4, np.arange(40) % 4 < 3
train, test = np.flatnonzero(seen)[:20], np.flatnonzero(seen)[20:]
data = GZSLData.from_arrays(rows, ids, np.eye(4), train=train, test_seen=test, unseen_classes=[3])
try:
    found = load_mat_folder("CUB")
except (DataError, MissingExtraError, StorageError):
    found = load_digits_gzsl(draw=1)
warn_of_order(found)
same, fit, training = digest("digits-1"), attributes_fit(found), without_test_rows(found)
features, labels, width = data.train_features, data.train_labels, data.feature_dim
z, logits, seen_ids = torch.ones(4, 8), torch.zeros(4, 4), torch.arange(3)
id2sd, o2dbd = ID2SDLoss(seen_ids), O2DBDLoss(4, seen_ids)
y = torch.tensor([0, 1, 2, 3])
of_student = id2sd(logits[:3, :3], logits[:3], z[:3], z[:3], y[:3])
of_domain = o2dbd(logits[:, :3], logits, y)
released = losses.ID2SDLoss.released(seen_ids)
kl, cosines = label_space_kl(logits[:, :3], logits, seen_ids), cosine_matrix(z, z)
relation = relation_loss(z, z, torch.eye(4, dtype=torch.bool))
confidence = id_confidence(id_score(logits), torch.ones(()), torch.zeros(()))
metrics: GZSLMetrics = gzsl_metrics(np.eye(4), np.arange(4), np.arange(3), np.array([3]))
offsets, on_unseen, on_seen = seen_unseen_curve(
    np.eye(4), np.arange(4), np.arange(3), np.array([3])
)
h, auroc = harmonic_mean(metrics.unseen, metrics.seen), ood_auroc(rows[:, 0], rows[:, 1])
accuracy = per_class_accuracy(ids, ids, np.arange(4))
