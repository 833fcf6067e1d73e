"""A plain f-CLSWGAN (Xian, Lorenz, Schiele, Akata, CVPR 2018); knows nothing of D³."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d3_adapters.fclswgan.networks import Critic, Generator
from d3_adapters.softmax import train_softmax
from d3_adapters.state import load_state, state_of
from d3_plugin.data import GZSLData


@dataclass(frozen=True)
class FCLSWGANSettings:
    """Settings of :class:`FCLSWGANTrainer`.

    Published are a hidden width of 4096, a learning rate of 1e-4 and attributes as in the file;
    the defaults here were better on pseudo-unseen classes of small data sets and train faster.

    Attributes:
        steps: generator steps. The paper counts epochs, of one step per ``batch_size`` rows.
        batch_size: rows per step.
        lr: of both Adams.
        hidden: width of the hidden layer of generator and critic.
        noise_dim: Z; None for the width of the attributes.
        attribute_norm: L2 norm every class's attributes are given, so that the noise does not
            drown them (the files of the field have norm 1); None leaves them as they are.
        critic_steps: critic steps per generator step.
        gradient_penalty: its weight.
        classification_weight: of the seen-class classification loss on generated rows.
        synthetic_per_class: rows per unseen class for the final classifier.
        classifier_epochs, classifier_lr: of the final classifier.
    """

    steps: int = 600
    batch_size: int = 64
    lr: float = 3e-4
    hidden: int = 1024
    noise_dim: int | None = None
    attribute_norm: float | None = 5.0
    critic_steps: int = 5
    gradient_penalty: float = 10.0
    classification_weight: float = 0.01
    synthetic_per_class: int = 200
    classifier_epochs: int = 25
    classifier_lr: float = 1e-3

    def __post_init__(self) -> None:
        counts = ("steps", "batch_size", "hidden", "critic_steps", "synthetic_per_class")
        wrong = [name for name in counts if getattr(self, name) < 1]
        if wrong or self.lr <= 0 or (self.noise_dim is not None and self.noise_dim < 1):
            raise ValueError(f"{', '.join(wrong) or 'lr and noise_dim'} must be above 0: {self}")


_PARTS = ("generator", "critic", "generator_optimizer", "critic_optimizer")


class FCLSWGANTrainer:
    """WGAN-GP on features, conditioned on attributes, with a classification loss.

    Args:
        data: the GZSL problem; only its training rows and attributes are used.
        settings: hyper-parameters.
        seed: of PyTorch's global random stream, set here once.
        device: where to train.
    """

    def __init__(
        self,
        data: GZSLData,
        settings: FCLSWGANSettings | None = None,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        torch.manual_seed(seed)
        self.settings = s = settings or FCLSWGANSettings()
        self.device = torch.device(device)
        self.data = data.to(self.device)
        attribute_dim = data.attributes.shape[1]
        self.attributes = self.data.attributes
        if s.attribute_norm is not None:
            self.attributes = F.normalize(self.attributes) * s.attribute_norm
        noise_dim = s.noise_dim or attribute_dim
        self.generator = Generator(noise_dim, attribute_dim, data.feature_dim, s.hidden)
        self.critic = Critic(data.feature_dim, attribute_dim, s.hidden)
        self.generator.to(self.device)
        self.critic.to(self.device)
        self.generator_optimizer, self.critic_optimizer = (
            torch.optim.Adam(network.parameters(), lr=s.lr, betas=(0.5, 0.999), fused=True)
            for network in (self.generator, self.critic)
        )
        self.seen_classifier: nn.Linear | None = None
        self.history: list[dict[str, float]] = []

    def fit(
        self,
        on_progress: Callable[[int, dict[str, float]], None] | None = None,
        *,
        start: int = 0,
    ) -> None:
        """Train; 20 times in all ``on_progress(step, losses)`` gets the mean losses since.

        ``start`` is the step that a loaded :meth:`state_dict` was taken after.
        """
        s = self.settings
        if self.seen_classifier is None:
            self.seen_classifier = train_softmax(
                self.data.train_features,
                self._seen_positions(self.data.train_labels),
                len(self.data.seen_classes),
                epochs=50,
            )
        part = max(1, s.steps // 20)
        total = torch.zeros(3, device=self.device)
        for step in range(start + 1, s.steps + 1):
            for _ in range(s.critic_steps):
                features, labels = self._batch()
                critic_loss = self.critic_step(features, labels)
            generator_loss, classification_loss = self.generator_step(labels)
            total += torch.stack([critic_loss, generator_loss, classification_loss])
            if step % part == 0:
                means = (total / part).tolist()
                losses = dict(zip(("critic", "generator", "classification"), means, strict=True))
                self.history.append({"step": step, **losses})
                total.zero_()
                if on_progress is not None:
                    on_progress(step, losses)

    def state_dict(self) -> dict[str, Any]:
        """What continues a run, with the step and the global random streams."""
        classifier = self.seen_classifier
        return {
            **state_of(self, _PARTS),
            "seen_classifier": None if classifier is None else classifier.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        load_state(self, _PARTS, state)
        self.seen_classifier = None
        if state["seen_classifier"] is not None:
            classifier = nn.Linear(self.data.feature_dim, len(self.data.seen_classes))
            classifier.load_state_dict(state["seen_classifier"])
            self.seen_classifier = classifier.to(self.device).requires_grad_(False)

    def _batch(self) -> tuple[Tensor, Tensor]:
        rows = torch.randint(
            len(self.data.train_labels), (self.settings.batch_size,), device=self.device
        )
        return self.data.train_features[rows], self.data.train_labels[rows]

    def _seen_positions(self, labels: Tensor) -> Tensor:
        return torch.searchsorted(self.data.seen_classes, labels)

    def _noise(self, rows: int) -> Tensor:
        return torch.randn(rows, self.generator.noise_dim, device=self.device)

    def critic_step(self, real: Tensor, labels: Tensor) -> Tensor:
        """One step of the critic on features (B, D) and their labels (B,); returns its loss."""
        attributes = self.attributes[labels]
        with torch.no_grad():
            fake = self.generator(self._noise(len(real)), attributes)
        real_score, fake_score = self.critic(
            torch.cat([real, fake]), torch.cat([attributes, attributes])
        ).chunk(2)
        loss = fake_score.mean() - real_score.mean()
        loss = loss + self.settings.gradient_penalty * self._penalty(real, fake, attributes)
        self.critic_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.critic_optimizer.step()
        return loss.detach()

    def _penalty(self, real: Tensor, fake: Tensor, attributes: Tensor) -> Tensor:
        between = torch.lerp(fake, real, torch.rand(len(real), 1, device=self.device))
        between.requires_grad_(True)
        score = self.critic(between, attributes).sum()
        (gradient,) = torch.autograd.grad(score, between, create_graph=True)
        return ((gradient.norm(dim=1) - 1) ** 2).mean()

    def generator_step(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """One step of the generator on the classes (B,); returns its two loss terms."""
        attributes = self.attributes[labels]
        self.critic.requires_grad_(False)
        fake = self.generator(self._noise(len(labels)), attributes)
        adversarial = -self.critic(fake, attributes).mean()
        classification = F.cross_entropy(self.seen_classifier(fake), self._seen_positions(labels))
        loss = adversarial + self.settings.classification_weight * classification
        self.generator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.generator_optimizer.step()
        self.critic.requires_grad_(True)
        return adversarial.detach(), classification.detach()

    def synthesize(self, classes: Tensor) -> Tensor:
        """One feature row for each class id of ``classes`` (N,): (N, D), with gradient."""
        return self.generator(self._noise(len(classes)), self.attributes[classes])

    def train_classifier(self, features: Tensor, labels: Tensor) -> nn.Linear:
        """The final softmax over all classes, on real seen and synthetic unseen rows."""
        s = self.settings
        return train_softmax(
            features,
            labels,
            self.data.num_classes,
            epochs=s.classifier_epochs,
            lr=s.classifier_lr,
            batch_size=s.synthetic_per_class,
        )
