"""Seconds per generator step of our f-CLSWGAN against a straight port of the published loop.

``python -m tests.benchmarks.baseline [--hidden 4096] [--rounds 5]``; blocks of both take turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from d3_adapters.fclswgan import FCLSWGANSettings, FCLSWGANTrainer
from d3_adapters.fclswgan.trainer import Generator
from d3_adapters.gan import Critic
from d3_plugin.data import GZSLData

FEATURES, ATTRIBUTES, SEEN, BATCH, STEPS = 2048, 312, 40, 64, 3


def stand_in() -> GZSLData:
    """Random rows of the shape of CUB's."""
    labels = torch.arange(SEEN).repeat_interleave(40)
    return GZSLData(
        "stand-in",
        train_features=torch.rand(len(labels), FEATURES),
        train_labels=labels,
        test_seen_features=torch.rand(SEEN, FEATURES),
        test_seen_labels=torch.arange(SEEN),
        test_unseen_features=torch.rand(10, FEATURES),
        test_unseen_labels=torch.arange(SEEN, SEEN + 10),
        attributes=torch.rand(SEEN + 10, ATTRIBUTES),
        seen_classes=torch.arange(SEEN),
        unseen_classes=torch.arange(SEEN, SEEN + 10),
        class_names=tuple(map(str, range(SEEN + 10))),
    )


class PublishedLoop:
    """The critic's loss in three backward passes, and a graph through the generator for it."""

    def __init__(self, data: GZSLData, hidden: int) -> None:
        self.data = data
        self.generator = Generator(ATTRIBUTES, ATTRIBUTES, FEATURES, hidden)
        self.critic = Critic(FEATURES, ATTRIBUTES, hidden)
        self.classifier = nn.Linear(FEATURES, SEEN).requires_grad_(False)
        self.generator_optimizer, self.critic_optimizer = (
            torch.optim.Adam(module.parameters(), lr=1e-4, betas=(0.5, 0.999))
            for module in (self.generator, self.critic)
        )
        self.real, self.attributes = torch.empty(BATCH, FEATURES), torch.empty(BATCH, ATTRIBUTES)
        self.labels, self.noise = torch.empty(BATCH).long(), torch.empty(BATCH, ATTRIBUTES)

    def sample(self) -> None:
        rows = torch.randperm(len(self.data.train_labels))[:BATCH]
        self.labels.copy_(self.data.train_labels[rows])
        self.real.copy_(self.data.train_features[rows])
        self.attributes.copy_(self.data.attributes[self.labels])

    def penalty(self, fake: Tensor) -> Tensor:
        share = torch.rand(BATCH, 1).expand(self.real.shape)
        between = (share * self.real + (1 - share) * fake).requires_grad_(True)
        score = self.critic(between, self.attributes)
        (slope,) = torch.autograd.grad(
            score, between, torch.ones_like(score), create_graph=True, retain_graph=True
        )
        return ((slope.norm(2, dim=1) - 1) ** 2).mean() * 10

    def fit(self) -> None:
        for _ in range(STEPS):
            self.critic.requires_grad_(True)
            for _ in range(5):
                self.sample()
                self.critic.zero_grad()
                self.critic(self.real, self.attributes).mean().backward(torch.tensor(-1.0))
                fake = self.generator(self.noise.normal_(), self.attributes)
                self.critic(fake.detach(), self.attributes).mean().backward()
                self.penalty(fake.detach()).backward()
                self.critic_optimizer.step()
            self.critic.requires_grad_(False)
            self.generator.zero_grad()
            fake = self.generator(self.noise.normal_(), self.attributes)
            loss = -self.critic(fake, self.attributes).mean()
            loss = loss + 0.01 * nn.functional.cross_entropy(self.classifier(fake), self.labels)
            loss.backward()
            self.generator_optimizer.step()


def seconds(fit: Callable[[], None]) -> float:
    started = time.perf_counter()
    fit()
    return (time.perf_counter() - started) / STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    data = stand_in()
    ours = FCLSWGANTrainer(data, FCLSWGANSettings(steps=STEPS, hidden=options.hidden))
    port = PublishedLoop(data, options.hidden)
    times = [(seconds(port.fit), seconds(ours.fit)) for _ in range(options.rounds + 1)][1:]
    theirs, own = (statistics.median(each) for each in zip(*times, strict=True))
    ratio = statistics.median(b / a for a, b in times)
    print(
        f"hidden {options.hidden}: port of the published loop {theirs * 1e3:.0f} ms, "
        f"ours {own * 1e3:.0f} ms per generator step: {ratio:.2f} times"
    )


if __name__ == "__main__":
    main()
