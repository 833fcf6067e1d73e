"""Imitates the scripts that grew out of f-CLSWGAN: LisGAN, LsrGAN, ZLA, gzsl-od, D3GZSL.

They differ in names, in the form of the labels and in what their generator's loss is made of; the
test puts the names of each in, and sets MAPPED.
"""

import numpy as np
import torch
from torch import nn, optim

from tests.toys import PlainGenerator, toy_problem

MAPPED, DECODER = True, True


class DATA_LOADER:
    """The attributes that all of them share, some with numpy arrays in them."""

    def __init__(self):
        problem = toy_problem()
        self.train_feature, self.train_label = problem.train_features, problem.train_labels
        self.test_seen_feature = problem.test_seen_features
        self.test_seen_label = problem.test_seen_labels
        self.test_unseen_feature = problem.test_unseen_features.numpy()
        self.test_unseen_label = problem.test_unseen_labels.numpy()
        self.attribute = problem.attributes
        self.seenclasses = torch.from_numpy(np.unique(self.train_label.numpy()))
        self.unseenclasses = torch.from_numpy(np.unique(self.test_unseen_label))

    def next_batch(self, batch_size):
        idx = torch.randperm(len(self.train_label))[0:batch_size]
        label = self.train_label[idx]
        return self.train_feature[idx], label, self.attribute[label]


torch.manual_seed(7)
data = DATA_LOADER()
netG, netD, netDec = PlainGenerator(), nn.Linear(12 + 5, 1), nn.Linear(12, 5)
input_res, input_att = torch.FloatTensor(16, 12), torch.FloatTensor(16, 5)
input_label = torch.LongTensor(16)
noise = torch.FloatTensor(16, 5)
optimizerD = optim.Adam(netD.parameters(), lr=1e-3)
optimizerDec = optim.Adam(netDec.parameters(), lr=1e-3)
optimizerG = optim.Adam(netG.parameters(), lr=1e-3)
printed = []
# attach here


def sample():
    batch_feature, batch_label, batch_att = data.next_batch(16)
    input_res.copy_(batch_feature)
    input_att.copy_(batch_att)
    if MAPPED:
        batch_label = torch.searchsorted(data.seenclasses, batch_label)
    input_label.copy_(batch_label)


for _ in range(4):
    for p in netD.parameters():
        p.requires_grad = True
    for p in netG.parameters():
        p.requires_grad = False
    sample()
    netD.zero_grad()
    noise.normal_(0, 1)
    fake = netG(noise, input_att)
    D_cost = netD(torch.cat((fake.detach(), input_att), 1)).mean()
    D_cost = D_cost - netD(torch.cat((input_res, input_att), 1)).mean()
    D_cost.backward()
    optimizerD.step()

    for p in netD.parameters():
        p.requires_grad = False
    for p in netG.parameters():
        p.requires_grad = True
    netG.zero_grad()
    fake = netG(noise.normal_(0, 1), input_att)
    G_cost = -netD(torch.cat((fake, input_att), 1)).mean()
    errG = G_cost
    if DECODER:
        netDec.zero_grad()
        errG += (netDec(fake) - input_att).pow(2).mean()  # in place: G_cost too
    # loss here
    errG.backward()
    optimizerG.step()
    optimizerDec.step()
    printed.append((D_cost.item(), G_cost.item()))
# evaluate here
nets = [netG, netD, netDec]
