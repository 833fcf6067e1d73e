"""Imitates ZS3Net's generator: pixels of one class per step, uniform noise, embeddings first.

The pixel features of all images are in one file, as on its page, since the loader has images.
"""

from types import SimpleNamespace

import torch
from torch import nn

from tests.toys import toy_problem

args = SimpleNamespace(noise_dim=5, embed_dim=5, hidden_size=16, feature_dim=12)


def save_pixels():
    problem = toy_problem()
    parts = ("train", "test_seen", "test_unseen")
    labels = [getattr(problem, f"{part}_labels") for part in parts]
    numbers = torch.arange(sum(map(len, labels))).split([len(part) for part in labels])
    pixels = {
        "features": torch.cat([getattr(problem, f"{part}_features") for part in parts]),
        "labels": torch.cat(labels),
        "attributes": problem.attributes,
    }
    torch.save(pixels | dict(zip(parts, numbers, strict=True)), "pixels.pt")
    return problem


class GMMNnetwork(nn.Module):
    def __init__(self, noise_dim, embed_dim, hidden_size, feature_dim):
        super().__init__()
        self.model = nn.Sequential(
            nn.Linear(noise_dim + embed_dim, hidden_size),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Dropout(p=0.5),
            nn.Linear(hidden_size, feature_dim),
        )

    def forward(self, embd, noise):
        return self.model(torch.cat((embd, noise), 1))


class Trainer:
    def __init__(self):
        self.pixels = save_pixels()
        self.generator = GMMNnetwork(**vars(args))
        self.optimizer_generator = torch.optim.Adam(self.generator.parameters(), lr=2e-4)
        # attach here

    def training(self):
        for real_features_i, target_i in self.images():
            embedding_i = self.pixels.attributes[target_i]
            for idx_in in target_i.unique():
                self.optimizer_generator.zero_grad()
                idx_class = target_i == idx_in
                real_features_class = real_features_i[idx_class]
                embedding_class = embedding_i[idx_class]
                z = torch.rand((embedding_class.shape[0], args.noise_dim))
                fake_features_class = self.generator(embedding_class, z.float())
                random_idx = torch.randint(0, fake_features_class.shape[0], (16,))
                g_loss = (
                    (
                        fake_features_class[random_idx].mean(0)
                        - real_features_class[random_idx].mean(0)
                    )
                    .pow(2)
                    .sum()
                )
                printed.append(g_loss.item())
                # loss here
                g_loss.backward()
                self.optimizer_generator.step()
        # evaluate here

    def images(self):
        """Two images, of the pixels of two seen classes each."""
        for classes in self.pixels.seen_classes[:4].split(2):
            idx = torch.isin(self.pixels.train_labels, classes)
            yield self.pixels.train_features[idx], self.pixels.train_labels[idx]


torch.manual_seed(7)
printed = []
trainer = Trainer()
trainer.training()
nets = [trainer.generator]
