"""A plain f-CLSWGAN (Xian, Lorenz, Schiele, Akata, CVPR 2018); knows nothing of D³."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from d3_plugin.checks import Count
from d3_plugin.evaluation.softmax import train_softmax

from ..gan import Critic, adam, critic_loss, gradient_penalty, init_weights, leaky_layers
from ..training import Progress, Trainer, TrainingSettings, descend


@dataclass(frozen=True)
class FCLSWGANSettings(TrainingSettings):
    """Settings of :class:`FCLSWGANTrainer`, in addition to those of all trainers.

    Published are a hidden width of 4096, a learning rate of 1e-4 and attributes as in the file;
    the defaults here were better on pseudo-unseen classes of small data sets and train faster. The
    paper counts epochs, of one step per ``batch_size`` rows.

    Attributes:
        hidden: width of the hidden layer of generator and critic.
        noise_dim: Z; None for the width of the attributes.
        attribute_norm: L2 norm every class's attributes are given, so that the noise does not
            drown them (the files of the field have norm 1); None leaves them unchanged.
        critic_steps: critic steps per generator step.
        gradient_penalty: its weight.
        classification_weight: of the seen-class classification loss on generated rows.
    """

    hidden: Count = 1024
    noise_dim: Count | None = None
    attribute_norm: float | None = 5.0
    critic_steps: Count = 5
    gradient_penalty: float = 10.0
    classification_weight: float = 0.01


class Generator(nn.Module):
    """``generator(noise, attributes)``: (N, Z), (N, A) -> features (N, D), at least 0."""

    def __init__(self, noise_dim: int, attribute_dim: int, feature_dim: int, hidden: int) -> None:
        super().__init__()
        inner = leaky_layers(noise_dim + attribute_dim, hidden)
        self.layers = nn.Sequential(*inner, nn.Linear(hidden, feature_dim), nn.ReLU())
        self.apply(init_weights)

    def forward(self, noise: Tensor, attributes: Tensor) -> Tensor:
        features: Tensor = self.layers(torch.cat([noise, attributes], dim=1))
        return features


class FCLSWGANTrainer(Trainer):
    """WGAN-GP on features, conditioned on attributes, with a classification loss.

    Args and the shared attributes: see :class:`~d3_adapters.training.Trainer`.
    """

    losses = ("critic", "generator", "classification")
    parts = ("generator", "critic", "seen_classifier", "generator_optimizer", "critic_optimizer")
    settings: FCLSWGANSettings
    settings_type = FCLSWGANSettings

    def make_networks(self) -> None:
        s, data = self.settings, self.data
        self.attributes = data.attributes
        if s.attribute_norm is not None:
            self.attributes = F.normalize(self.attributes) * s.attribute_norm
        attribute_dim = data.attributes.shape[1]
        self.noise_dim = s.noise_dim or attribute_dim
        self.generator = Generator(self.noise_dim, attribute_dim, data.feature_dim, s.hidden)
        self.critic = Critic(data.feature_dim, attribute_dim, s.hidden)
        self.generator.to(self.device)
        self.critic.to(self.device)
        self.generator_optimizer = adam(self.generator, s.lr)
        self.critic_optimizer = adam(self.critic, s.lr)
        shape = (data.feature_dim, len(data.seen_classes))
        # fit() trains it; made here, without drawing random numbers, for load_state_dict().
        self.seen_classifier = skip_init(nn.Linear, *shape, device=self.device)
        self.seen_classifier.requires_grad_(False)

    def fit(self, on_progress: Progress | None = None, *, start: int = 0) -> None:
        """Train a classifier of the seen classes, then the GAN; see :meth:`Trainer.fit`."""
        if start == 0:
            positions = self.seen_positions(self.data.train_labels)
            number = len(self.data.seen_classes)
            classifier = train_softmax(self.data.train_features, positions, number, epochs=50)
            self.seen_classifier = classifier
        super().fit(on_progress, start=start)

    def step(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        for _ in range(self.settings.critic_steps - 1):
            self.critic_step(*self.batch(self.data.train_features))
        real, labels = self.batch(self.data.train_features)
        return self.critic_step(real, labels), *self.generator_step(labels)

    def critic_step(self, real: Tensor, labels: Tensor) -> Tensor:
        """One step of the critic on features (B, D) and their labels (B,); returns its loss."""
        attributes = self.attributes[labels]
        with torch.no_grad():
            fake = self.generator(self.noise(len(real)), attributes)
        loss = critic_loss(self.critic, real, fake, attributes)
        penalty = gradient_penalty(self.critic, real, fake, attributes)
        loss = loss + self.settings.gradient_penalty * penalty
        descend(loss, self.critic_optimizer)
        return loss.detach()

    def generator_step(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """One step of the generator on the classes (B,); returns its two loss terms."""
        self.critic.requires_grad_(False)
        fake = self.synthesize(labels)
        adversarial = -self.critic(fake, self.attributes[labels]).mean()
        classification = F.cross_entropy(self.seen_classifier(fake), self.seen_positions(labels))
        loss = adversarial + self.settings.classification_weight * classification
        descend(loss, self.generator_optimizer)
        self.critic.requires_grad_(True)
        return adversarial.detach(), classification.detach()

    def synthesize(self, classes: Tensor) -> Tensor:
        """One feature row for each class id of ``classes`` (N,): (N, D), with gradient."""
        features: Tensor = self.generator(self.noise(len(classes)), self.attributes[classes])
        return features
