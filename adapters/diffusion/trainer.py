"""A conditional diffusion generator of features, a residual on a linear mean; nothing of D³."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from d3_adapters.diffusion.networks import Denoiser
from d3_adapters.diffusion.ridge import fit_ridge
from d3_adapters.diffusion.schedule import add_noise, cosine_alpha_bar, ddim_step, ddim_timesteps
from d3_adapters.diffusion.settings import DiffusionSettings
from d3_adapters.diffusion.space import (
    FeatureSpace,
    class_means,
    matched_strength,
    residual_noise,
    within_class_residuals,
)
from d3_adapters.softmax import train_softmax
from d3_adapters.state import load_state, state_of
from d3_plugin.data import GZSLData

MAX_NOISE_ROWS = 2000  # residuals that noise is made of: enough for its covariance, cheap to mix


_PARTS = ("generator", "ema_generator", "generator_optimizer")


class DiffusionTrainer:
    """Denoising diffusion of what a ridge regression on the attributes leaves unexplained.

    A feature is ``ridge(attributes) + residual`` in standardised space. The diffusion generates
    the residual: a denoiser that saw whole features would take an unseen class, on its way through
    the sampler, for the seen class nearest to it. Few-step samples spread less than real rows;
    noise with the covariance of real residuals makes up for it. Features come back in the space of
    ``data``, and clipped at 0 if no training feature is negative.

    Args:
        data: the GZSL problem; only its training rows and attributes are used.
        settings: hyper-parameters.
        seed: of PyTorch's global random stream, set here once.
        device: where to train.

    Attributes:
        generator: the denoiser.
        ema_generator: the average of its weights, which multi-step sampling uses.
        ridge: the fitted :class:`~d3_adapters.diffusion.ridge.AttributeRidge`.
        noise_one_step, noise_sampled: 0-dim strengths of the added noise, for the one-step estimate
            and for samples; the second is set after training.
        history: dicts of ``step`` and the mean loss since the entry before.
    """

    def __init__(
        self,
        data: GZSLData,
        settings: DiffusionSettings | None = None,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        torch.manual_seed(seed)
        self.settings = s = settings or DiffusionSettings()
        self.device = torch.device(device)
        self.data = data.to(self.device)
        self.alpha_bar = cosine_alpha_bar(s.timesteps).to(self.device)
        self._sampling = ddim_timesteps(s.timesteps, s.sampling_steps)
        self._fit_means()
        attribute_dim = data.attributes.shape[1]
        self.generator = Denoiser(data.feature_dim, attribute_dim, s.hidden, s.blocks)
        self.generator.to(self.device)
        self.ema_generator = copy.deepcopy(self.generator).requires_grad_(False)
        self.generator_optimizer = torch.optim.Adam(
            self.generator.parameters(), lr=s.lr, fused=True
        )
        self.noise_one_step = self.noise_sampled = self._match_noise(None)
        self.history: list[dict[str, float]] = []

    def _fit_means(self) -> None:
        """Everything that is fitted once, on the training rows: scales, ridge, residuals."""
        features, seen = self.data.train_features, self.data.seen_classes
        positions = torch.searchsorted(seen, self.data.train_labels)
        self.space = FeatureSpace.of(features, self.settings.power)
        around = within_class_residuals(features, positions, len(seen))
        degrees = max(len(around) - len(seen), 1)
        self.real_variance = around.square().sum(dim=0).mean() / degrees
        rows = self.space.standardise(features)
        around = within_class_residuals(rows, positions, len(seen))
        self.noise_rows = around[:: -(-len(around) // MAX_NOISE_ROWS)]
        attributes = self.data.attributes - self.data.attributes[seen].mean(dim=0)
        self.attributes = attributes / attributes[seen].square().mean().sqrt().clamp(min=1e-12)
        self.ridge = fit_ridge(self.attributes[seen], class_means(rows, positions, len(seen)))
        self.means = self.ridge(self.attributes)
        residuals = rows - self.means[self.data.train_labels]
        self.residual_scale = residuals.square().mean().sqrt().clamp(min=1e-12)
        self.residuals = residuals / self.residual_scale

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
        total = torch.zeros((), device=self.device)
        for step in range(start + 1, s.steps + 1):
            rows = torch.randint(len(self.residuals), (s.batch_size,), device=self.device)
            total += self.denoising_step(self.residuals[rows], self.data.train_labels[rows])
            self.update_ema(step)
            if step % part == 0:
                losses = {"denoising": float(total / part)}
                self.history.append({"step": step, **losses})
                total.zero_()
                if on_progress is not None:
                    on_progress(step, losses)
        self.noise_sampled = self._match_noise(self.ema_generator)

    def state_dict(self) -> dict[str, Any]:
        """What continues a run, with the step and the global random streams.

        The strength of the sampling noise is fitted anew at the end of :meth:`fit`.
        """
        return state_of(self, _PARTS)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        load_state(self, _PARTS, state)

    def denoising_step(self, residuals: Tensor, labels: Tensor) -> Tensor:
        """One step on scaled residuals (B, D) and their classes (B,); returns its loss.

        Half the squared error summed over D, divided by √D. Adam does not feel the factor, but what
        is added to the loss does: a row's gradient is now about as long as a critic's slope of 1.
        """
        s = self.settings
        timesteps = torch.randint(s.timesteps, (len(labels),), device=self.device)
        noise = torch.randn_like(residuals)
        noisy = add_noise(residuals, noise, self.alpha_bar[timesteps, None])
        attributes = self.attributes[labels]
        if s.guidance != 1:
            kept = torch.rand(len(labels), 1, device=self.device) >= s.condition_dropout
            attributes = attributes * kept
        error = self.generator(noisy, timesteps, attributes) - residuals
        loss = 0.5 * error.square().sum(dim=1).mean() / residuals.shape[1] ** 0.5
        self.generator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.generator_optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def update_ema(self, step: int) -> None:
        """``average = decay * average + (1 - decay) * weights``, after step ``step`` from 1 on."""
        decay = min(self.settings.ema, (1 + step) / (10 + step))
        average, weights = self.ema_generator.parameters(), self.generator.parameters()
        get_ema_multi_avg_fn(decay)(list(average), list(weights), None)

    def _estimate(self, network: nn.Module, noisy: Tensor, timestep: int, rows: Tensor) -> Tensor:
        """Estimated clean residuals (N, D) at one timestep, attributes ``rows`` (N, A)."""
        timesteps = torch.full((len(noisy),), timestep, device=self.device)
        clean: Tensor = network(noisy, timesteps, rows)
        if self.settings.guidance == 1:
            return clean
        plain = network(noisy, timesteps, torch.zeros_like(rows))
        return plain + self.settings.guidance * (clean - plain)

    def _noise(self, rows: int, stream: torch.Generator | None = None) -> Tensor:
        return torch.randn(rows, self.data.feature_dim, device=self.device, generator=stream)

    def _residual_noise(self, rows: int, stream: torch.Generator | None = None) -> Tensor:
        wanted = (rows, len(self.noise_rows))
        normal = torch.randn(wanted, device=self.device, generator=stream)
        return residual_noise(self.noise_rows, normal)

    def _real_residuals(self, rows: int, stream: torch.Generator | None = None) -> Tensor:
        number = len(self.noise_rows)
        picked = torch.randint(number, (rows,), device=self.device, generator=stream)
        return self.noise_rows[picked]

    def _sample(
        self, network: nn.Module, classes: Tensor, stream: torch.Generator | None = None
    ) -> Tensor:
        """DDIM from pure noise, without the matched noise: (N,) -> standardised rows (N, D)."""
        eta, attributes = self.settings.eta, self.attributes[classes]
        rows = clean = self._noise(len(classes), stream)
        for timestep, following in zip(self._sampling, [*self._sampling[1:], None], strict=True):
            clean = self._estimate(network, rows, timestep, attributes)
            if following is not None:  # the last step goes to the clean rows themselves
                fresh = self._noise(len(classes), stream) if eta else None
                before, after = self.alpha_bar[timestep], self.alpha_bar[following]
                rows = ddim_step(rows, clean, before, after, eta, fresh)
        return self.means[classes] + self.residual_scale * clean

    @torch.no_grad()
    def _match_noise(self, network: nn.Module | None, per_class: int = 50) -> Tensor:
        """Strength of the noise for samples, or for bare class means; judged on seen classes."""
        stream = torch.Generator(self.device).manual_seed(0)
        seen = self.data.seen_classes
        classes = seen.repeat_interleave(per_class)
        if network is None:
            rows, noise = self.means[classes], self._real_residuals(len(classes), stream)
        else:
            rows = self._sample(network, classes, stream)
            noise = self._residual_noise(len(classes), stream)
        rows, noise = (each.view(len(seen), per_class, -1) for each in (rows, noise))
        return matched_strength(rows, noise, self.real_variance, self.space)

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
            start, last = self._noise(len(classes)), self.settings.timesteps - 1
            clean = self._estimate(self.generator, start, last, self.attributes[classes])
            rows = self.means[classes] + self.residual_scale * clean
            return self.space.restore(rows + self.noise_one_step * noise)
        noise = self._residual_noise(len(classes))
        with torch.no_grad():
            rows = self._sample(self.ema_generator, classes)
            return self.space.restore(rows + self.noise_sampled * noise)

    def spread_ratio(self, differentiable: bool = False, per_class: int = 50) -> float:
        """Generated to real within-class standard deviation, both root mean squares over D.

        On the seen classes, from the global random stream; 1 is a match.
        """
        seen = self.data.seen_classes
        with torch.no_grad():
            rows = self.synthesize(seen.repeat_interleave(per_class), differentiable)
            variance = rows.view(len(seen), per_class, -1).var(dim=1).mean()
            return float((variance / self.real_variance).sqrt())

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
