"""Imitates ZeroDiff: a diffusion's network beside a trained one that makes its second condition."""

from types import SimpleNamespace

import torch
from torch import nn, optim

from tests.toys import toy_problem

opt = SimpleNamespace(noiseSize=3, resSize=12, n_T=4)


class DATA_LOADER:
    """Beside the features it has those of another backbone, which condition the generator."""

    def __init__(self):
        problem = toy_problem()
        self.attribute = problem.attributes
        self.train_feature, self.train_label = problem.train_features, problem.train_labels
        self.test_seen_feature = problem.test_seen_features
        self.test_seen_label = problem.test_seen_labels
        self.test_unseen_feature = problem.test_unseen_features
        self.test_unseen_label = problem.test_unseen_labels
        self.seenclasses, self.unseenclasses = problem.seen_classes, problem.unseen_classes
        self.train_paco = self.train_feature.flip(1) ** 2

    def next_seen_batch(self, seen_batch):
        idx = torch.randperm(len(self.train_label))[0:seen_batch]
        label = self.train_label[idx]
        return self.train_feature[idx], self.train_paco[idx], self.attribute[label], label


class DRG_Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(opt.noiseSize + 5 + 2048 + 1, 12)

    def forward(self, z, att, c_t, t):
        return torch.sigmoid(self.fc(torch.cat((z, att, c_t, t[:, None] / opt.n_T), 1)))


class DFG_Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(opt.noiseSize + 5 + 12 + 12 + 1, 12)

    def forward(self, z, att, con, x_t, t):
        return torch.sigmoid(self.fc(torch.cat((z, att, con, x_t, t[:, None] / opt.n_T), 1)))


class ZERODIFF(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.n_T, self.data = opt.n_T, data
        self.netE, self.netG = nn.Linear(12 + 5, opt.noiseSize), DFG_Generator()
        self.netD = nn.Linear(12 + 5, 1)
        self.optimizerE = optim.Adam(self.netE.parameters(), lr=1e-3)
        self.optimizerG = optim.Adam(self.netG.parameters(), lr=1e-3)
        self.netR = DRG_Generator()
        self.netR.eval()

    def forward(self):
        x_0_real, con_0_real, att_0_real, label = self.data.next_seen_batch(16)
        return self.update_G(x_0_real, con_0_real, att_0_real, label)

    def update_G(self, x_0_real, con_0_real, att_0_real, label):
        self.netE.zero_grad()
        self.netG.zero_grad()
        z = self.netE(torch.cat((x_0_real, att_0_real), 1))
        _ts_feat = torch.randint(0, self.n_T, (16,), dtype=torch.int64)
        x_tp1_real = x_0_real + torch.randn_like(x_0_real) * _ts_feat[:, None] / self.n_T
        x_0_fake = self.netG(z, att_0_real, con_0_real, x_tp1_real.detach(), _ts_feat)
        errG = 0.0
        errG += nn.functional.binary_cross_entropy(x_0_fake + 1e-12, x_0_real.detach())
        errG += -self.netD(torch.cat((x_0_fake, att_0_real), 1)).mean()
        # loss here
        errG.backward()
        self.optimizerE.step()
        self.optimizerG.step()
        return errG


torch.manual_seed(7)
data = DATA_LOADER()
zerodiff = ZERODIFF(data)
zerodiff.train()
# attach here
printed = []
for _ in range(4):
    printed.append(zerodiff().item())
# evaluate here
nets = [zerodiff]
