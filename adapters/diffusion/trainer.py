"""A conditional diffusion generator of features, as a residual on a linear mean; nothing of D³."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from d3_plugin.checks import Count

from ..training import Progress, Trainer, TrainingSettings, descend
from .networks import Denoiser
from .schedule import add_noise, cosine_alpha_bar, ddim_step, ddim_timesteps
from .space import FeatureSpace, class_means, matched_strength, residual_noise, ridge_means

MAX_NOISE_ROWS = 2000  # residuals that noise is made of: enough for its covariance, cheap to mix
JUDGED_ROWS = 50  # per seen class, to match the strength of the noise


@dataclass(frozen=True)
class DiffusionSettings(TrainingSettings):
    """Settings of :class:`DiffusionTrainer`, in addition to those of all trainers.

    Attributes:
        power: exponent applied to features before they are standardised, in (0, 1]; 1 for none.
            Ignored if a training feature is negative.
        hidden: width of the denoiser.
        blocks: its residual blocks.
        ema: decay of the averaged weights that multi-step sampling uses; in step ``k`` at most
            ``(1 + k) / (10 + k)``.
        timesteps: of the noise schedule.
        sampling_steps: DDIM steps of sampling without gradient; 1 to 10 are enough.
    """

    steps: Count = 2000
    power: float = 0.5
    hidden: Count = 512
    blocks: Count = 2
    ema: float = 0.995
    timesteps: Count = 1000
    sampling_steps: Count = 5


class DiffusionTrainer(Trainer):
    """Denoising diffusion of what a ridge regression on the attributes leaves unexplained.

    A feature is ``ridge(attributes) + residual`` in standardised space. The diffusion generates
    the residual: a denoiser that saw whole features would take an unseen class, on its way through
    the sampler, for the seen class nearest to it. Few-step samples spread less than real rows;
    noise with the covariance of real residuals makes up for it. Features are returned in the space
    of ``data``, clipped at 0 if no training feature is negative.

    Args and the shared attributes: see :class:`~d3_adapters.training.Trainer`.

    Attributes:
        generator: the denoiser.
        ema_generator: the average of its weights, which multi-step sampling uses.
        means: (C, D) the ridge regression's mean of each class, standardised.
        noise_one_step, noise_sampled: 0-dim strengths of the added noise, for the one-step estimate
            and for samples; the second is fitted at the end of :meth:`fit`.
    """

    losses = ("denoising",)
    parts = ("generator", "ema_generator", "generator_optimizer")
    settings: DiffusionSettings
    settings_type = DiffusionSettings

    def make_networks(self) -> None:
        s, data = self.settings, self.data
        self.noise_dim = data.feature_dim
        self.alpha_bar = cosine_alpha_bar(s.timesteps).to(self.device)
        self._sampling = ddim_timesteps(s.timesteps, s.sampling_steps)
        self._fit_means()
        attribute_dim = data.attributes.shape[1]
        self.generator = Denoiser(data.feature_dim, attribute_dim, s.hidden, s.blocks)
        self.generator.to(self.device)
        self.ema_generator = copy.deepcopy(self.generator).requires_grad_(False)
        weights = self.generator.parameters()
        self.generator_optimizer = torch.optim.Adam(weights, lr=s.lr, fused=True)
        stream, classes = self._judged()
        noise = self._real_residuals(len(classes), stream)
        self.noise_one_step = self._matched_strength(self.means[classes], noise)
        self.noise_sampled = self.noise_one_step

    def _fit_means(self) -> None:
        """Everything that is fitted once, on the training rows: scales, ridge, residuals."""
        features, labels = self.data.train_features, self.data.train_labels
        seen = self.data.seen_classes
        positions = self.seen_positions(labels)
        around = features - class_means(features, positions, len(seen))[positions]
        degrees = max(len(around) - len(seen), 1)
        self.real_variance = around.square().sum(dim=0).mean() / degrees
        self.space = FeatureSpace.of(features, self.settings.power)
        rows = self.space.standardise(features)
        means = class_means(rows, positions, len(seen))
        around = rows - means[positions]
        self.noise_rows = around[:: -(-len(around) // MAX_NOISE_ROWS)]
        attributes = self.data.attributes - self.data.attributes[seen].mean(dim=0)
        self.attributes = attributes / attributes[seen].square().mean().sqrt().clamp(min=1e-12)
        self.means = ridge_means(self.attributes, seen, means)
        residuals = rows - self.means[labels]
        self.residual_scale = residuals.square().mean().sqrt().clamp(min=1e-12)
        self.residuals = residuals / self.residual_scale

    def fit(self, on_progress: Progress | None = None, *, start: int = 0) -> None:
        """Train, then match the strength of the noise; see :meth:`Trainer.fit`."""
        super().fit(on_progress, start=start)
        stream, classes = self._judged()
        rows = self._sample(classes, stream)
        noise = self._residual_noise(len(classes), stream)
        self.noise_sampled = self._matched_strength(rows, noise)

    def step(self, number: int) -> tuple[Tensor]:
        loss = self.denoising_step(*self.batch(self.residuals))
        self.update_ema(number)
        return (loss,)

    def denoising_step(self, residuals: Tensor, labels: Tensor) -> Tensor:
        """One step on scaled residuals (B, D) and their classes (B,); returns its loss.

        Half the squared error summed over D, divided by √D. Adam does not feel the factor, but what
        is added to the loss does: a row's gradient is now about as long as a critic's slope of 1.
        """
        timesteps = torch.randint(self.settings.timesteps, (len(labels),), device=self.device)
        noise = torch.randn_like(residuals)
        noisy = add_noise(residuals, noise, self.alpha_bar[timesteps, None])
        error = self.generator(noisy, timesteps, self.attributes[labels]) - residuals
        loss: Tensor = 0.5 * error.square().sum(dim=1).mean() / math.sqrt(residuals.shape[1])
        descend(loss, self.generator_optimizer)
        return loss.detach()

    @torch.no_grad()
    def update_ema(self, step: int) -> None:
        """``average = decay * average + (1 - decay) * weights``, after step ``step`` from 1 on."""
        decay = min(self.settings.ema, (1 + step) / (10 + step))
        average, weights = self.ema_generator.parameters(), self.generator.parameters()
        get_ema_multi_avg_fn(decay)(list(average), list(weights), None)

    def synthesize(self, classes: Tensor, differentiable: bool = False) -> Tensor:
        """One feature row for each class id of ``classes`` (N,): (N, D).

        Args:
            classes: class ids.
            differentiable: True for the denoiser's own one-step estimate from pure noise, with
                gradient to ``generator``, and real residuals picked at random for noise; False for
                ``sampling_steps`` steps of the averaged weights, without gradient, and normal noise
                of the same covariance.
        """
        if differentiable:
            noise = self._real_residuals(len(classes))
            last = torch.full((len(classes),), self.settings.timesteps - 1, device=self.device)
            clean = self.generator(self.noise(len(classes)), last, self.attributes[classes])
            rows = self.means[classes] + self.residual_scale * clean
            return self.space.restore(rows + self.noise_one_step * noise)
        noise = self._residual_noise(len(classes))
        rows = self._sample(classes)
        return self.space.restore(rows + self.noise_sampled * noise)

    @torch.no_grad()
    def _sample(self, classes: Tensor, stream: torch.Generator | None = None) -> Tensor:
        """DDIM from pure noise, without the matched noise: (N,) -> standardised rows (N, D)."""
        attributes = self.attributes[classes]
        rows = self.noise(len(classes), stream)
        for timestep, following in zip(self._sampling, [*self._sampling[1:], None], strict=True):
            timesteps = torch.full((len(rows),), timestep, device=self.device)
            clean = self.ema_generator(rows, timesteps, attributes)
            if following is None:  # the last step goes to the clean rows themselves
                rows = clean
            else:
                rows = ddim_step(rows, clean, self.alpha_bar[timestep], self.alpha_bar[following])
        return self.means[classes] + self.residual_scale * rows

    def _residual_noise(self, rows: int, stream: torch.Generator | None = None) -> Tensor:
        normal = torch.randn(rows, len(self.noise_rows), device=self.device, generator=stream)
        return residual_noise(self.noise_rows, normal)

    def _real_residuals(self, rows: int, stream: torch.Generator | None = None) -> Tensor:
        number = len(self.noise_rows)
        return self.noise_rows[torch.randint(number, (rows,), device=self.device, generator=stream)]

    def _judged(self) -> tuple[torch.Generator, Tensor]:
        """A separate random stream, and the seen class ids on which the noise is matched."""
        stream = torch.Generator(self.device).manual_seed(0)
        return stream, self.data.seen_classes.repeat_interleave(JUDGED_ROWS)

    def _matched_strength(self, rows: Tensor, noise: Tensor) -> Tensor:
        shape = (len(self.data.seen_classes), JUDGED_ROWS, -1)
        return matched_strength(rows.view(shape), noise.view(shape), self.real_variance, self.space)
