"""An f-CLSWGAN script with D³ added in three lines.

The three lines are marked ``# D3``. The rest is a module-level script as the field writes them:
global buffers overwritten by ``copy_``, labels mapped to the seen classes, three ``backward`` calls
per critic step, ``requires_grad`` switched between critic and generator, ``zero_grad`` on modules.
Run ``python examples/clswgan_script.py``.
"""

import argparse

import torch
import torch.nn as nn
import torch.optim as optim

import d3_plugin  # D3
from d3_plugin.data import load

parser = argparse.ArgumentParser()
parser.add_argument("--dataset", default="digits-1")
parser.add_argument("--nepoch", type=int, default=20)
parser.add_argument("--batch_size", type=int, default=64)
parser.add_argument("--ngh", type=int, default=256)
parser.add_argument("--lr", type=float, default=3e-4)
parser.add_argument("--lambda1", type=float, default=10)
parser.add_argument("--critic_iter", type=int, default=5)
parser.add_argument("--manualSeed", type=int, default=0)
opt = parser.parse_args()
torch.manual_seed(opt.manualSeed)


class DataLoader:
    """The field's data object: tensors under their usual names, and ``next_batch``."""

    def __init__(self, name):
        problem = load(name).scaled()
        self.train_feature, self.train_label = problem.train_features, problem.train_labels
        self.test_seen_feature = problem.test_seen_features
        self.test_seen_label = problem.test_seen_labels
        self.test_unseen_feature = problem.test_unseen_features
        self.test_unseen_label = problem.test_unseen_labels
        self.attribute = problem.attributes
        self.seenclasses, self.unseenclasses = problem.seen_classes, problem.unseen_classes
        self.ntrain = len(self.train_label)

    def next_batch(self, batch_size):
        idx = torch.randperm(self.ntrain)[0:batch_size]
        label = self.train_label[idx]
        return self.train_feature[idx], label, self.attribute[label]


class MLP_G(nn.Module):
    def __init__(self, nz, att_size, ngh, res_size):
        super().__init__()
        self.fc1 = nn.Linear(nz + att_size, ngh)
        self.fc2 = nn.Linear(ngh, res_size)

    def forward(self, noise, att):
        h = nn.functional.leaky_relu(self.fc1(torch.cat((noise, att), 1)), 0.2)
        return torch.relu(self.fc2(h))


class MLP_CRITIC(nn.Module):
    def __init__(self, res_size, att_size, ndh):
        super().__init__()
        self.fc1 = nn.Linear(res_size + att_size, ndh)
        self.fc2 = nn.Linear(ndh, 1)

    def forward(self, x, att):
        return self.fc2(nn.functional.leaky_relu(self.fc1(torch.cat((x, att), 1)), 0.2))


data = DataLoader(opt.dataset)
res_size, att_size = data.train_feature.size(1), data.attribute.size(1)
netG = MLP_G(att_size, att_size, opt.ngh, res_size)
netD = MLP_CRITIC(res_size, att_size, opt.ngh)
input_res = torch.FloatTensor(opt.batch_size, res_size)
input_att = torch.FloatTensor(opt.batch_size, att_size)
input_label = torch.LongTensor(opt.batch_size)
noise = torch.FloatTensor(opt.batch_size, att_size)
one = torch.tensor(1.0)
mone = one * -1
optimizerD = optim.Adam(netD.parameters(), lr=opt.lr, betas=(0.5, 0.999))
optimizerG = optim.Adam(netG.parameters(), lr=opt.lr, betas=(0.5, 0.999))
d3 = d3_plugin.attach(generator=netG, optimizer=optimizerG, data=data, labels_are="mapped")  # D3


def map_label(label, classes):
    mapped_label = torch.LongTensor(label.size())
    for i in range(classes.size(0)):
        mapped_label[label == classes[i]] = i
    return mapped_label


def sample():
    batch_feature, batch_label, batch_att = data.next_batch(opt.batch_size)
    input_res.copy_(batch_feature)
    input_att.copy_(batch_att)
    input_label.copy_(map_label(batch_label, data.seenclasses))


def gradient_penalty(real, fake):
    alpha = torch.rand(opt.batch_size, 1)
    between = (alpha * real + (1 - alpha) * fake).requires_grad_(True)
    score = netD(between, input_att)
    (gradients,) = torch.autograd.grad(
        score, between, torch.ones_like(score), create_graph=True, retain_graph=True
    )
    return ((gradients.norm(2, dim=1) - 1) ** 2).mean() * opt.lambda1


for epoch in range(opt.nepoch):
    for _ in range(0, data.ntrain, opt.batch_size):
        for p in netD.parameters():
            p.requires_grad = True
        for _ in range(opt.critic_iter):
            sample()
            netD.zero_grad()
            criticD_real = netD(input_res, input_att).mean()
            criticD_real.backward(mone)
            noise.normal_(0, 1)
            fake = netG(noise, input_att)
            criticD_fake = netD(fake.detach(), input_att).mean()
            criticD_fake.backward(one)
            gradient_penalty(input_res, fake.detach()).backward()
            optimizerD.step()

        for p in netD.parameters():
            p.requires_grad = False
        netG.zero_grad()
        noise.normal_(0, 1)
        fake = netG(noise, input_att)
        errG = -netD(fake, input_att).mean()
        errG = errG + d3.loss(features=input_res, labels=input_label)  # D3
        errG.backward()
        optimizerG.step()
    print(f"[{epoch + 1}/{opt.nepoch}] errG {errG.item():.4f}")

print(d3.evaluate())
