"""Imitates CADA-VAE: encoders and decoders in plain dicts, and a loader with dicts of splits."""

import torch
from torch import nn, optim

from tests.toys import toy_problem


class DATA_LOADER:
    def __init__(self):
        problem = toy_problem()
        self.aux_data = problem.attributes
        self.seenclasses, self.novelclasses = problem.seen_classes, problem.unseen_classes
        self.data = {
            part: {"resnet_features": rows, "labels": labels}
            for part, rows, labels in (
                ("train_seen", problem.train_features, problem.train_labels),
                ("train_unseen", None, None),
                ("test_seen", problem.test_seen_features, problem.test_seen_labels),
                ("test_unseen", problem.test_unseen_features, problem.test_unseen_labels),
            )
        }

    def next_batch(self, batch_size):
        idx = torch.randperm(len(self.data["train_seen"]["labels"]))[0:batch_size]
        label = self.data["train_seen"]["labels"][idx]
        return label, [self.data["train_seen"]["resnet_features"][idx], self.aux_data[label]]


class encoder_template(nn.Module):
    def __init__(self, input_dim):
        super().__init__()
        self.h, self._mu, self._logvar = nn.Linear(input_dim, 8), nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x):
        h = torch.relu(self.h(x))
        return self._mu(h), self._logvar(h)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.auxiliary_data_source = "attributes"
        self.dataset = DATA_LOADER()
        dims = {"resnet_features": 12, self.auxiliary_data_source: 5}
        self.encoder = {key: encoder_template(dim) for key, dim in dims.items()}
        self.decoder = {key: nn.Linear(4, dim) for key, dim in dims.items()}
        parameters_to_optimize = list(self.parameters())
        for net in (*self.encoder.values(), *self.decoder.values()):
            parameters_to_optimize += list(net.parameters())
        self.optimizer = optim.Adam(parameters_to_optimize, lr=1e-3, amsgrad=True)

    def reparameterize(self, mu, logvar):
        if not self.reparameterize_with_noise:
            return mu
        eps = torch.FloatTensor(logvar.size()[0], 1).normal_(0, 1)
        return mu + torch.exp(logvar) * eps.expand(logvar.size())

    def trainstep(self, img, att):
        mu_img, logvar_img = self.encoder["resnet_features"](img)
        z_from_img = self.reparameterize(mu_img, logvar_img)
        mu_att, logvar_att = self.encoder[self.auxiliary_data_source](att)
        z_from_att = self.reparameterize(mu_att, logvar_att)
        loss = torch.FloatTensor([0.1]) * (mu_img - mu_att).pow(2).sum()
        for z in (z_from_img, z_from_att):
            loss += (self.decoder["resnet_features"](z) - img).abs().sum()
            loss += (self.decoder[self.auxiliary_data_source](z) - att).abs().sum()
        self.optimizer.zero_grad()
        # loss here
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def train_vae(self):
        self.train()
        self.reparameterize_with_noise = True
        # attach here
        for _ in range(4):
            _, (img, att) = self.dataset.next_batch(16)
            printed.append(self.trainstep(img, att))
        # evaluate here


torch.manual_seed(7)
printed = []
model = Model()
model.train_vae()
nets = [*model.encoder.values(), *model.decoder.values()]
