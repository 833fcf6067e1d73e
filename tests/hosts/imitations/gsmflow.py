"""Imitates GSMFlow: a conditional flow, whose condition a module makes of the attributes."""

import numpy as np
import torch
from torch import nn, optim

from tests.toys import toy_problem


class DATA_LOADER:
    """Labels are positions among the classes of their part, and some arrays are numpy's."""

    def __init__(self):
        problem = toy_problem()
        seen, unseen = problem.seen_classes, problem.unseen_classes
        self.attribute, self.seenclasses, self.unseenclasses = problem.attributes, seen, unseen
        self.train_feature = problem.train_features.numpy()
        self.test_seen_feature = problem.test_seen_features.numpy()
        self.test_unseen_feature = problem.test_unseen_features.numpy()
        self.train_label = torch.searchsorted(seen, problem.train_labels).numpy()
        self.test_seen_label = torch.searchsorted(seen, problem.test_seen_labels)
        self.test_unseen_label = torch.searchsorted(unseen, problem.test_unseen_labels)
        self.train_att = problem.attributes[seen].numpy()
        self.feature_dim = self.train_feature.shape[1]


class cINN(nn.Module):
    """Affine couplings; a fixed permutation is a parameter that is not trained."""

    def __init__(self):
        super().__init__()
        self.order = nn.Parameter(torch.randperm(12).float(), requires_grad=False)
        self.subnets = nn.ModuleList(nn.Linear(6 + 8, 12) for _ in range(2))
        self.trainable_parameters = [p for p in self.parameters() if p.requires_grad]

    def coupling(self, net, x, c):
        scale, shift = net(torch.cat((x, c), 1)).chunk(2, 1)
        return torch.tanh(scale), shift

    def forward(self, x, c):
        a, b = x[:, self.order.long()].chunk(2, 1)
        jacobian = 0
        for net in self.subnets:
            scale, shift = self.coupling(net, a, c)
            a, b = b * scale.exp() + shift, a
            jacobian = jacobian + scale.sum(1)
        return torch.cat((a, b), 1), jacobian

    def reverse_sample(self, z, c):
        a, b = z.chunk(2, 1)
        for net in reversed(self.subnets):
            scale, shift = self.coupling(net, b, c)
            a, b = b, (a - shift) * (-scale).exp()
        return torch.cat((a, b), 1)[:, self.order.long().argsort()]


def train():
    dataset = DATA_LOADER()
    flow, sm = cINN(), nn.Sequential(nn.Linear(5, 8), nn.ReLU())
    optimizer = optim.Adam(list(flow.trainable_parameters) + list(sm.parameters()), lr=1e-3)
    # attach here
    for _ in range(4):
        flow.zero_grad()
        sm.zero_grad()
        rows = np.random.permutation(len(dataset.train_label))[:16]  # noqa: NPY002
        labels = torch.from_numpy(dataset.train_label[rows])
        C = torch.from_numpy(np.array([dataset.train_att[i, :] for i in labels]))
        X = torch.from_numpy(dataset.train_feature[rows])
        X = X + 0.05 * torch.randn(X.shape)
        sr = sm(C)
        z_, log_jac_det = flow(X, sr)
        loss = torch.mean(z_**2) / 2 - torch.mean(log_jac_det) / 12
        # loss here
        loss.backward(retain_graph=True)
        with torch.no_grad():
            sr = sm(torch.from_numpy(dataset.train_att))
        prototype_loss = flow.reverse_sample(torch.zeros(4, 12), sr).pow(2).mean()
        prototype_loss.backward()
        optimizer.step()
        printed.append((loss.item(), prototype_loss.item()))
    # evaluate here
    nets.extend([flow, sm])


np.random.seed(7)  # noqa: NPY002
torch.manual_seed(7)
printed, nets = [], []
train()
