"""A model of your own, from arrays to tables.

python own_vae.py          # trains with D³, prints U, S, H and AUSUC, saves the classifier
python own_vae.py load     # in another process: classifies rows
python own_vae.py compare  # the same training with and without D³, and a report
"""

import sys

import numpy as np
import torch
from torch import nn

import d3_plugin
from d3_plugin.data import GZSLData
from d3_plugin.evaluation import Classifier
from d3_plugin.experiments import compare

rng = np.random.default_rng(0)
ids, att = np.repeat(np.arange(10), 50), rng.random((10, 16))  # (N,) labels, (C, A)
features = att[ids] @ rng.random((16, 64)) + rng.normal(0, 0.3, (500, 64))  # (N, D)
seen, fifth = ids < 8, np.arange(500) % 5 == 0
kept, test = seen & ~fifth, seen & fifth
data = GZSLData.from_arrays(features, ids, att, train=kept, test_seen=test, unseen_classes=[8, 9])


def train(data, seed, d3=d3_plugin):  # compare() passes another d3
    torch.manual_seed(seed)
    x, y, attributes = data.train_features, data.train_labels, data.attributes
    d, a, z = x.shape[1], attributes.shape[1], 16
    encoder = nn.Sequential(nn.Linear(d + a, 256), nn.ReLU(), nn.Linear(256, 2 * z))
    decoder = nn.Sequential(nn.Linear(z + a, 256), nn.ReLU(), nn.Linear(256, d))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()])

    def synthesize(class_ids, attributes):  # (N,), (N, A) -> (N, D)
        return decoder(torch.cat([torch.randn(len(attributes), z), attributes], dim=1))

    d3 = d3.attach(generator=decoder, optimizer=optimizer, data=data, synthesize=synthesize)
    for _ in range(300):
        rows = torch.randint(len(y), (64,))
        real, given = x[rows], attributes[y[rows]]
        mean, log_var = encoder(torch.cat([real, given], dim=1)).chunk(2, dim=1)
        code = mean + torch.randn_like(mean) * (log_var / 2).exp()
        error = (decoder(torch.cat([code, given], dim=1)) - real).square().sum()
        loss = (error + 0.5 * (mean**2 + log_var.exp() - log_var - 1).sum()) / len(rows)
        loss = loss + d3.loss(features=real, labels=y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return d3


if __name__ == "__main__" and "load" in sys.argv:
    print(Classifier.load("own_vae.pt").predict(features[::50]))
elif __name__ == "__main__" and "compare" in sys.argv:
    print(compare(train, data, "runs/own_vae", seeds=3))
elif __name__ == "__main__":
    d3 = train(data.scaled(), seed=0)
    print(d3.evaluate())
    d3.classifier().save("own_vae.pt")
