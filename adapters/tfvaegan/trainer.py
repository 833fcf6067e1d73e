"""A plain TF-VAEGAN (Narayan, Gupta, Khan, Snoek, Shao, ECCV 2020); knows nothing of D³.

Two things differ from the authors' code. The feedback for features from fresh noise, which the
published CUB, AWA2 and SUN settings do not use, decodes those features (theirs the
reconstructions). The critic's own loss is not multiplied by the adversarial weight, which Adam
would divide out again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from d3_plugin.checks import Count, Positive

from ..gan import Critic, adam, critic_loss, gradient_penalty, init_weights, leaky_layers
from ..training import Trainer, TrainingSettings, descend
from .losses import adapted_weight, attribute_loss, vae_loss
from .networks import Encoder, Generator, SemanticDecoder

_NETWORKS = ("encoder", "generator", "critic", "decoder", "feedback")


@dataclass(frozen=True)
class TFVAEGANSettings(TrainingSettings):
    """Settings of :class:`TFVAEGANTrainer`, in addition to those of all trainers.

    The defaults are for small data: their rate and attribute norm did better on pseudo-unseen
    classes than half the rate and the published norm of 1; steps and widths are those of our
    f-CLSWGAN. The authors' own settings are in ``examples/benchmarks``. The paper counts epochs,
    each of ``loops`` passes of one step per ``batch_size`` rows.

    Attributes:
        feedback_lr, decoder_lr: of the feedback network and of the semantic decoder.
        hidden: width of the hidden layers.
        noise_dim: Z; None for the width of the attributes.
        attribute_norm: L2 norm of the attributes that encoder, generator and critic see. The
            published 1 lets the noise drown them on small data. The decoder's targets have norm 1.
        loops: passes over the data that take turns; all but the first train with feedback.
        feedback_training, feedback_synthesis: weight of the feedback (the paper's δ; a1, a2 in the
            authors' code).
        encoded_noise: whether the critic sees reconstructions from encoded real rows, instead of
            features from fresh noise.
        critic_steps: critic and decoder steps per generator step.
        gradient_penalty: its weight at the start; see :func:`.losses.adapted_weight`.
        adversarial_weight: of the critic's score, added to the VAE loss.
        attribute_weight: of the decoder's attribute loss.
        freeze_decoder: whether the generator step leaves the decoder unchanged.
    """

    lr: Positive = 6e-4
    feedback_lr: Positive = 1e-4
    decoder_lr: Positive = 3e-4
    hidden: Count = 1024
    noise_dim: Count | None = None
    attribute_norm: float = 5.0
    loops: Count = 2
    feedback_training: float = 1.0
    feedback_synthesis: float = 1.0
    encoded_noise: bool = True
    critic_steps: Count = 5
    gradient_penalty: float = 10.0
    adversarial_weight: float = 10.0
    attribute_weight: float = 0.01
    freeze_decoder: bool = False


class TFVAEGANTrainer(Trainer):
    """VAE-GAN on features, whose generator gets feedback from a decoder of the attributes.

    Args and the shared attributes: see :class:`~d3_adapters.training.Trainer`.

    Raises:
        ValueError: training features outside [0, 1].
    """

    losses = ("critic", "decoder", "penalty_weight", "vae", "generator", "attributes")
    parts = (*_NETWORKS, *(f"{name}_optimizer" for name in _NETWORKS))
    settings: TFVAEGANSettings
    settings_type = TFVAEGANSettings

    def make_networks(self) -> None:
        s, data = self.settings, self.data
        low, high = data.train_features.min().item(), data.train_features.max().item()
        if low < -1e-4 or high > 1 + 1e-4:
            raise ValueError(
                f"TF-VAEGAN needs features in [0, 1], got {low:.3g} to {high:.3g}: "
                "give it data.scaled()"
            )
        self.unit_attributes = F.normalize(data.attributes)
        self.attributes = self.unit_attributes * s.attribute_norm
        features, attributes = data.feature_dim, data.attributes.shape[1]
        self.noise_dim = noise = s.noise_dim or attributes
        self.encoder = Encoder(features, attributes, noise, s.hidden).to(self.device)
        self.generator = Generator(noise, attributes, features, s.hidden).to(self.device)
        self.critic = Critic(features, attributes, s.hidden).to(self.device)
        self.decoder = SemanticDecoder(features, attributes, s.hidden).to(self.device)
        self.feedback = leaky_layers(s.hidden, s.hidden, s.hidden).apply(init_weights)
        self.feedback.to(self.device)
        self.encoder_optimizer = torch.optim.Adam(self.encoder.parameters(), lr=s.lr, fused=True)
        self.generator_optimizer = adam(self.generator, s.lr)
        self.critic_optimizer = adam(self.critic, s.lr)
        self.decoder_optimizer = adam(self.decoder, s.decoder_lr)
        self.feedback_optimizer = adam(self.feedback, s.feedback_lr)
        self.penalty_weight = torch.tensor(s.gradient_penalty, device=self.device)

    def step(self, number: int) -> tuple[Tensor, ...]:
        s = self.settings
        pass_steps = -(-len(self.data.train_labels) // s.batch_size)
        with_feedback = (number - 1) // pass_steps % s.loops > 0
        mean_penalty = torch.zeros((), device=self.device)
        turns = [self._critic_turn(with_feedback) for _ in range(s.critic_steps)]
        for *_, penalty in turns:
            mean_penalty += penalty / s.critic_steps
        self.penalty_weight = adapted_weight(self.penalty_weight, mean_penalty)
        real, labels, decoder, critic, _ = turns[-1]
        terms = self.generator_step(real, labels, with_feedback)
        return critic, decoder, self.penalty_weight, *terms

    def _critic_turn(self, with_feedback: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """A step of decoder and critic each: their batch (B, D) and (B,), losses, and penalty."""
        real, labels = self.batch(self.data.train_features)
        decoder = self.decoder_step(real, labels)
        return real, labels, decoder, *self.critic_step(real, labels, with_feedback)

    def decoder_step(self, features: Tensor, labels: Tensor) -> Tensor:
        """One step of the decoder on features (B, D) and their labels (B,); returns its loss."""
        loss = attribute_loss(self.decoder(features)[0], self.unit_attributes[labels])
        descend(self.settings.attribute_weight * loss, self.decoder_optimizer)
        return loss.detach()

    def critic_step(
        self, real: Tensor, labels: Tensor, with_feedback: bool
    ) -> tuple[Tensor, Tensor]:
        """One step of the critic on (B, D) and (B,); returns its loss and its gradient penalty."""
        attributes = self.attributes[labels]
        with torch.no_grad():
            encoded = self.settings.encoded_noise
            noise = self._encode(real, attributes)[0] if encoded else self.noise(len(real))
            fake = self._generate(noise, attributes, with_feedback)
        loss = critic_loss(self.critic, real, fake, attributes)
        penalty = gradient_penalty(self.critic, real, fake, attributes)
        loss = loss + self.penalty_weight * penalty
        descend(loss, self.critic_optimizer)
        return loss.detach(), penalty.detach()

    def generator_step(
        self, real: Tensor, labels: Tensor, with_feedback: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step of encoder and generator, with feedback also of the feedback network, and of
        the decoder if it is not frozen, on (B, D) and (B,); returns the three loss terms."""
        s = self.settings
        attributes = self.attributes[labels]
        self.critic.requires_grad_(False)
        self.decoder.requires_grad_(not s.freeze_decoder)
        noise, mean, log_variance = self._encode(real, attributes)
        fake = self._generate(noise, attributes, with_feedback)
        vae = vae_loss(fake, real, mean, log_variance)
        if not s.encoded_noise:
            fake = self._generate(self.noise(len(real)), attributes, with_feedback)
        adversarial = -self.critic(fake, attributes).mean()
        decoded = attribute_loss(self.decoder(fake)[0], self.unit_attributes[labels])
        loss = vae + s.adversarial_weight * adversarial + s.attribute_weight * decoded
        # A network without gradient, such as a frozen decoder, stays as it is.
        more = self.feedback_optimizer, self.decoder_optimizer
        descend(loss, self.encoder_optimizer, self.generator_optimizer, *more)
        self.critic.requires_grad_(True)
        self.decoder.requires_grad_(True)
        return vae.detach(), adversarial.detach(), decoded.detach()

    def _encode(self, features: Tensor, attributes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A sample of q(z | features, attributes), its mean and its log-variance, each (B, Z)."""
        mean, log_variance = self.encoder(features, attributes)
        noise = self.noise(len(features)) * (0.5 * log_variance).exp() + mean
        return noise, mean, log_variance

    def _feedback(self, noise: Tensor, attributes: Tensor) -> Tensor:
        """(B, H) unweighted feedback on features generated from the noise without feedback.

        Gradient reaches the feedback network, not the decoder and the first pass.
        """
        with torch.no_grad():
            _, hidden = self.decoder(self.generator(noise, attributes))
        feedback: Tensor = self.feedback(hidden)
        return feedback

    def _generate(self, noise: Tensor, attributes: Tensor, with_feedback: bool) -> Tensor:
        feedback = None
        if with_feedback:
            feedback = self.settings.feedback_training * self._feedback(noise, attributes)
        features: Tensor = self.generator(noise, attributes, feedback)
        return features

    def synthesize(self, classes: Tensor) -> Tensor:
        """One feature row for each class id of ``classes`` (N,): (N, D), through the feedback.

        Gradient reaches the generator's second pass, not the networks of the feedback path.
        """
        noise, attributes = self.noise(len(classes)), self.attributes[classes]
        with torch.no_grad():
            feedback = self.settings.feedback_synthesis * self._feedback(noise, attributes)
        features: Tensor = self.generator(noise, attributes, feedback)
        return features

    def transform(self, features: Tensor) -> Tensor:
        """(N, D) -> (N, D + A + H): features, decoded attributes, the decoder's hidden layer."""
        return torch.cat([features, *self.decoder(features)], dim=1)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "penalty_weight": self.penalty_weight.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.penalty_weight = state["penalty_weight"].to(self.device)
