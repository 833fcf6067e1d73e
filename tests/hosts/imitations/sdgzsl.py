"""Imitates SDGZSL: a conditional VAE, whose rows an autoencoder takes apart; labels are mapped."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn, optim

from tests.toys import toy_problem

opt = SimpleNamespace(X_dim=12, C_dim=5, Z_dim=3, S_dim=6)


def map_label(label, classes):
    mapped_label = torch.LongTensor(label.size())
    for i in range(classes.size(0)):
        mapped_label[label == classes[i]] = i
    return mapped_label


class DATA_LOADER:
    """Every label is a position among the classes of its part, so test_unseen counts from 0."""

    def __init__(self):
        problem = toy_problem()
        self.attribute = problem.attributes
        self.seenclasses, self.unseenclasses = problem.seen_classes, problem.unseen_classes
        self.train_feature = problem.train_features
        self.test_seen_feature = problem.test_seen_features
        self.test_unseen_feature = problem.test_unseen_features
        self.train_label = map_label(problem.train_labels, self.seenclasses)
        self.test_seen_label = map_label(problem.test_seen_labels, self.seenclasses)
        self.test_unseen_label = map_label(problem.test_unseen_labels, self.unseenclasses)
        self.train_att = self.attribute[self.seenclasses].numpy()


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Sequential(nn.Linear(opt.X_dim + opt.C_dim, 16), nn.Dropout(0.1))
        self.mean, self.var = nn.Linear(16, opt.Z_dim), nn.Linear(16, opt.Z_dim)
        self.p = nn.Sequential(
            nn.Linear(opt.Z_dim + opt.C_dim, 16), nn.BatchNorm1d(16), nn.Linear(16, opt.X_dim)
        )

    def decode(self, z, c):
        return self.p(torch.cat((z, c), 1))

    def forward(self, x, c):
        h = self.q(torch.cat((x, c), 1))
        mean, var = self.mean(h), nn.functional.softplus(self.var(h))
        z = torch.FloatTensor(var.size()).normal_() * var.sqrt() + mean
        return self.decode(z, c), mean, var, z


class AE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(opt.X_dim, opt.S_dim + 2), nn.Dropout(0.1))
        self.decoder = nn.Linear(opt.S_dim + 2, opt.X_dim)

    def forward(self, x):
        return self.decoder(self.encoder(x))


def train():
    dataset = DATA_LOADER()
    model, ae = VAE(), AE()
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    ae_optimizer = optim.Adam(ae.parameters(), lr=1e-3)
    # attach here
    for _ in range(4):
        rows = np.random.permutation(len(dataset.train_label))[:16]  # noqa: NPY002
        labels = dataset.train_label[torch.from_numpy(rows)]
        C = torch.from_numpy(np.array([dataset.train_att[i, :] for i in labels]))
        X = dataset.train_feature[torch.from_numpy(rows)]
        x_mean, z_mu, z_var, _ = model(X, C)
        loss = (x_mean - X).pow(2).sum() - (1 + z_var.log() - z_mu.pow(2) - z_var).sum() / 2
        loss = loss / 16 + (ae(x_mean) - X).pow(2).mean()
        optimizer.zero_grad()
        ae_optimizer.zero_grad()
        # loss here
        loss.backward()
        optimizer.step()
        ae_optimizer.step()
        printed.append(loss.item())
    # evaluate here
    nets.extend([model, ae])


np.random.seed(7)  # noqa: NPY002
torch.manual_seed(7)
printed, nets = [], []
train()
