"""Hyper-parameters of TF-VAEGAN."""

from __future__ import annotations

from dataclasses import dataclass

from d3_plugin.checks import Count, Positive

from ..training import TrainingSettings


@dataclass(frozen=True)
class TFVAEGANSettings(TrainingSettings):
    """Settings of :class:`~d3_adapters.tfvaegan.TFVAEGANTrainer`, in addition to those of all
    trainers.

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
