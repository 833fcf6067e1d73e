"""The terms of the hypotheses a, b and c of docs/experiments.md, as its page defines them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from d3_plugin import D3
from d3_plugin.data import GZSLData
from d3_plugin.distillation.teacher import pretrain_teacher
from d3_plugin.hosts.host import StepBatch
from d3_plugin.hosts.isolation import RandomStream

Term = Callable[[StepBatch], Tensor]
TERM_WEIGHT = 10.0


def predicted(data: GZSLData, reference: Tensor) -> Tensor:
    """(U, S) relations of unseen to seen classes, by a regression on those (S, S) of seen ones."""
    attributes = data.attributes
    around = attributes - attributes[data.seen_classes].mean(dim=0)
    distance = torch.cdist(around, around)
    seen = data.seen_classes
    pairs = ~torch.eye(len(seen), dtype=torch.bool)
    width = distance[seen][:, seen][pairs].median()
    kernels = [F.normalize(x) @ F.normalize(x).T for x in (attributes, around)]
    similar = torch.stack([*kernels, (-((distance / width) ** 2)).exp()], dim=2)
    similar = torch.cat([similar, similar**2], dim=2).numpy()
    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-4, 4, 17)))
    model.fit(similar[seen][:, seen][pairs], reference[pairs].numpy())
    wanted = similar[data.unseen_classes][:, seen]
    made = model.predict(wanted.reshape(-1, wanted.shape[2])).reshape(wanted.shape[:2])
    return torch.from_numpy(made).float()


def class_means(data: GZSLData, rows: Tensor) -> Tensor:
    """(S, ...) means of (N, ...) training rows."""
    return torch.stack([rows[data.train_labels == c].mean(dim=0) for c in data.seen_classes])


@torch.no_grad()
def graded(d3: D3, *, of_teacher: bool) -> Term:
    """Hypothesis a, for the embedding of the teacher (reaches the generator) or the student."""
    data = d3.host.data
    embedding = d3.distiller.teacher(data.train_features)[1]
    means = class_means(data, embedding)
    centre = means.mean(dim=0)
    means = F.normalize(means - centre)
    target = predicted(data, class_means(data, F.normalize(embedding - centre) @ means.T))

    def term(batch: StepBatch) -> Tensor:
        rows = batch.teacher_embedding if of_teacher else batch.student_embedding
        rows = rows[: batch.num_synthetic]
        drawn = batch.labels[: len(rows), None] == data.unseen_classes
        counts = drawn.sum(dim=0)
        cosine = drawn.float().T @ (F.normalize(rows - centre) @ means.T)
        cosine = cosine / counts.clamp_min(1)[:, None]
        return TERM_WEIGHT * (cosine - target)[counts > 0].square().mean()

    return term


class SemanticClassifier(nn.Module):
    """Hypothesis c: class weights from attributes, plus a residual for each class.

    Args:
        data: the problem.
        teacher: its classifier.
    """

    def __init__(self, data: GZSLData, teacher: nn.Linear) -> None:
        super().__init__()
        seen = data.seen_classes
        attributes = data.attributes - data.attributes[seen].mean(dim=0)
        attributes = attributes / attributes[seen].abs().sum(dim=1).mean()
        goal = teacher.weight.detach()
        ridge = RidgeCV(np.logspace(-8, 2, 21)).fit(attributes[seen].numpy(), goal.numpy())
        self.register_buffer("attributes", attributes)
        self.register_buffer("mean", torch.from_numpy(ridge.intercept_).float())
        self.map = nn.Parameter(torch.from_numpy(ridge.coef_.T).float().contiguous())
        self.residual = nn.Parameter(torch.zeros(data.num_classes, goal.shape[1]))
        self.bias = nn.Parameter(teacher.bias.detach().mean().repeat(data.num_classes))
        with torch.no_grad():
            self.residual[seen] = goal - self.weight()[seen]
            self.bias[seen] = teacher.bias

    def weight(self) -> Tensor:
        """(C, K)."""
        return self.attributes @ self.map + self.mean + self.residual

    def forward(self, embedding: Tensor) -> Tensor:
        return F.linear(embedding, self.weight(), self.bias)


@torch.no_grad()
def weight_relations(d3: D3) -> Term:
    """Hypothesis c: the cosines of unseen with seen class weights are as attributes predict."""
    data, classify = d3.host.data, d3.distiller.student.classify
    of_teacher = d3.distiller.teacher.classify.weight
    centre = of_teacher.mean(dim=0)
    unit = F.normalize(of_teacher - centre)
    target = predicted(data, unit @ unit.T)

    def term(batch: StepBatch) -> Tensor:
        unit = F.normalize(classify.weight() - centre)
        cosine = unit[data.unseen_classes] @ unit[data.seen_classes].T
        return TERM_WEIGHT * (cosine - target).square().mean()

    return term


def matched_scores(d3: D3, seed: int) -> Term:
    """Hypothesis b."""
    data = d3.host.data

    def standardised(teacher: nn.Module, rows: Tensor, training: Tensor) -> Tensor:
        known = teacher(training)[0].logsumexp(dim=1)
        return (teacher(rows)[0].logsumexp(dim=1) - known.mean()) / known.std()

    left_out: list[Tensor] = []
    with RandomStream(seed, d3.host.device, "folds"):
        for fold in data.seen_classes[torch.randperm(len(data.seen_classes))].tensor_split(3):
            kept = ~torch.isin(data.train_labels, fold)
            rows, labels = data.train_features[kept], data.train_labels[kept]
            classes, positions = labels.unique(return_inverse=True)
            teacher = pretrain_teacher(rows, positions, len(classes))
            left_out.append(standardised(teacher, data.train_features[~kept], rows))
    known = d3.distiller.teacher(data.train_features)[0].logsumexp(dim=1)
    places = (torch.arange(d3.settings.synthetic_rows) + 0.5) / d3.settings.synthetic_rows
    target = torch.cat(left_out).quantile(places)

    def term(batch: StepBatch) -> Tensor:
        score = batch.teacher_logits[: batch.num_synthetic].logsumexp(dim=1)
        return (((score - known.mean()) / known.std()).sort().values - target).square().mean()

    return term
