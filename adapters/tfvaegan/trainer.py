"""A plain TF-VAEGAN (Narayan, Gupta, Khan, Snoek, Shao, ECCV 2020); knows nothing of D³.

Two things differ from the authors' code, neither in the published CUB, AWA2 and SUN settings: the
feedback for features from fresh noise decodes those features (theirs the reconstructions), and the
critic's own loss is not multiplied by the adversarial weight, which Adam would divide out again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d3_adapters.softmax import train_softmax
from d3_adapters.state import load_state, state_of
from d3_adapters.tfvaegan.losses import adapted_weight, attribute_loss, slope_penalty, vae_loss
from d3_adapters.tfvaegan.networks import Critic, Encoder, FeedbackNet, Generator, SemanticDecoder
from d3_adapters.tfvaegan.settings import TFVAEGANSettings
from d3_plugin.data import GZSLData

LOSSES = ("critic", "decoder", "penalty_weight", "vae", "generator", "attributes")


_NETWORKS = ("encoder", "generator", "critic", "decoder", "feedback")
_PARTS = (*_NETWORKS, *(f"{name}_optimizer" for name in _NETWORKS))


class TFVAEGANTrainer:
    """VAE-GAN on features, whose generator gets feedback from a decoder of the attributes.

    Args:
        data: the GZSL problem; only its training rows, in [0, 1], and attributes are used.
        settings: hyper-parameters.
        seed: of PyTorch's global random stream, set here once.
        device: where to train.

    Raises:
        ValueError: training features outside [0, 1].
    """

    def __init__(
        self,
        data: GZSLData,
        settings: TFVAEGANSettings | None = None,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        torch.manual_seed(seed)
        self.settings = s = settings or TFVAEGANSettings()
        self.device = torch.device(device)
        low, high = data.train_features.min().item(), data.train_features.max().item()
        if low < -1e-4 or high > 1 + 1e-4:
            raise ValueError(
                f"TF-VAEGAN needs features in [0, 1], got {low:.3g} to {high:.3g}: "
                "give it data.scaled()"
            )
        self.data = data.to(self.device)
        self.unit_attributes = F.normalize(self.data.attributes)
        self.attributes = self.unit_attributes * s.attribute_norm
        features, attributes = data.feature_dim, data.attributes.shape[1]
        noise = s.noise_dim or attributes
        self.encoder = Encoder(features, attributes, noise, s.hidden).to(self.device)
        self.generator = Generator(noise, attributes, features, s.hidden).to(self.device)
        self.critic = Critic(features, attributes, s.hidden).to(self.device)
        self.decoder = SemanticDecoder(features, attributes, s.hidden).to(self.device)
        self.feedback = FeedbackNet(s.hidden).to(self.device)
        self.encoder_optimizer = torch.optim.Adam(self.encoder.parameters(), lr=s.lr, fused=True)
        self.generator_optimizer = _adam(self.generator, s.lr)
        self.critic_optimizer = _adam(self.critic, s.lr)
        self.decoder_optimizer = _adam(self.decoder, s.decoder_lr)
        self.feedback_optimizer = _adam(self.feedback, s.feedback_lr)
        self.penalty_weight = torch.tensor(s.gradient_penalty, device=self.device)
        self.history: list[dict[str, float]] = []

    def fit(
        self,
        on_progress: Callable[[int, dict[str, float]], None] | None = None,
        *,
        start: int = 0,
    ) -> None:
        """Train; after every 20th part ``on_progress(step, losses)`` gets its mean losses.

        ``start`` is the step that a loaded :meth:`state_dict` was taken after.
        """
        s = self.settings
        part = max(1, s.steps // 20)
        pass_steps = -(-len(self.data.train_labels) // s.batch_size)
        total = torch.zeros(len(LOSSES), device=self.device)
        for step in range(start + 1, s.steps + 1):
            with_feedback = (step - 1) // pass_steps % s.loops > 0
            penalty = torch.zeros((), device=self.device)
            for _ in range(s.critic_steps):
                features, labels = self._batch()
                decoder_loss = self.decoder_step(features, labels)
                critic_loss, slope = self.critic_step(features, labels, with_feedback)
                penalty += slope / s.critic_steps
            self.penalty_weight = adapted_weight(self.penalty_weight, penalty)
            terms = self.generator_step(features, labels, with_feedback)
            total += torch.stack([critic_loss, decoder_loss, self.penalty_weight, *terms])
            if step % part == 0:
                losses = dict(zip(LOSSES, (total / part).tolist(), strict=True))
                self.history.append({"step": step, **losses})
                total.zero_()
                if on_progress is not None:
                    on_progress(step, losses)

    def state_dict(self) -> dict[str, Any]:
        """What continues a run, with the step and the global random streams."""
        return {**state_of(self, _PARTS), "penalty_weight": self.penalty_weight.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        load_state(self, _PARTS, state)
        self.penalty_weight = state["penalty_weight"].to(self.device)

    def _batch(self) -> tuple[Tensor, Tensor]:
        rows = torch.randint(
            len(self.data.train_labels), (self.settings.batch_size,), device=self.device
        )
        return self.data.train_features[rows], self.data.train_labels[rows]

    def _noise(self, rows: int) -> Tensor:
        return torch.randn(rows, self.generator.noise_dim, device=self.device)

    def _encode(self, features: Tensor, attributes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A sample of q(z | features, attributes), its mean and its log-variance, each (B, Z)."""
        mean, log_variance = self.encoder(features, attributes)
        noise = self._noise(len(features)) * (0.5 * log_variance).exp() + mean
        return noise, mean, log_variance

    def _feedback(self, noise: Tensor, attributes: Tensor) -> Tensor:
        """(B, H) unweighted feedback on what the generator makes of the noise without feedback.

        Gradient reaches the feedback network, not the decoder and the first pass.
        """
        with torch.no_grad():
            _, hidden = self.decoder(self.generator(noise, attributes))
        feedback: Tensor = self.feedback(hidden)
        return feedback

    def _generate(self, noise: Tensor, attributes: Tensor, with_feedback: bool) -> Tensor:
        if not with_feedback:
            return self.generator(noise, attributes)
        feedback = self.settings.feedback_training * self._feedback(noise, attributes)
        return self.generator(noise, attributes, feedback)

    def decoder_step(self, features: Tensor, labels: Tensor) -> Tensor:
        """One step of the decoder on features (B, D) and their labels (B,); returns its loss."""
        loss = attribute_loss(self.decoder(features)[0], self.unit_attributes[labels])
        self.decoder_optimizer.zero_grad(set_to_none=True)
        (self.settings.attribute_weight * loss).backward()
        self.decoder_optimizer.step()
        return loss.detach()

    def critic_step(
        self, real: Tensor, labels: Tensor, with_feedback: bool
    ) -> tuple[Tensor, Tensor]:
        """One step of the critic on (B, D) and (B,); returns its loss and slope penalty."""
        attributes = self.attributes[labels]
        with torch.no_grad():
            encoded = self.settings.encoded_noise
            noise = self._encode(real, attributes)[0] if encoded else self._noise(len(real))
            fake = self._generate(noise, attributes, with_feedback)
        real_score, fake_score = self.critic(
            torch.cat([real, fake]), torch.cat([attributes, attributes])
        ).chunk(2)
        penalty = slope_penalty(self.critic, real, fake, attributes)
        loss = fake_score.mean() - real_score.mean() + self.penalty_weight * penalty
        self.critic_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.critic_optimizer.step()
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
            fake = self._generate(self._noise(len(real)), attributes, with_feedback)
        adversarial = -self.critic(fake, attributes).mean()
        decoded = attribute_loss(self.decoder(fake)[0], self.unit_attributes[labels])
        loss = vae + s.adversarial_weight * adversarial + s.attribute_weight * decoded
        optimizers = [self.encoder_optimizer, self.generator_optimizer]
        if with_feedback:
            optimizers.append(self.feedback_optimizer)
        if not s.freeze_decoder:
            optimizers.append(self.decoder_optimizer)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        self.critic.requires_grad_(True)
        self.decoder.requires_grad_(True)
        return vae.detach(), adversarial.detach(), decoded.detach()

    def synthesize(self, classes: Tensor) -> Tensor:
        """One feature row for each class id of ``classes`` (N,): (N, D), through the feedback.

        Gradient reaches the generator's second pass, not the networks of the feedback path.
        """
        noise, attributes = self._noise(len(classes)), self.attributes[classes]
        with torch.no_grad():
            feedback = self.settings.feedback_synthesis * self._feedback(noise, attributes)
        return self.generator(noise, attributes, feedback)

    def transform(self, features: Tensor) -> Tensor:
        """(N, D) -> (N, D + A + H): features, decoded attributes, the decoder's hidden layer."""
        return torch.cat([features, *self.decoder(features)], dim=1)

    def train_classifier(self, features: Tensor, labels: Tensor) -> nn.Linear:
        """The final softmax over all classes, on transformed real seen and synthetic rows."""
        s = self.settings
        return train_softmax(
            features,
            labels,
            self.data.num_classes,
            epochs=s.classifier_epochs,
            lr=s.classifier_lr,
            batch_size=s.synthetic_per_class,
        )


def _adam(module: nn.Module, lr: float) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), lr=lr, betas=(0.5, 0.999), fused=True)
