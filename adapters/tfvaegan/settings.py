"""Settings of TF-VAEGAN, and the published ones by data set."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class TFVAEGANSettings:
    """Settings of :class:`~d3_adapters.tfvaegan.TFVAEGANTrainer`.

    :func:`published_settings` has those of the authors, for data sets of 5,000 rows and more. The
    default attribute norm and rate were better on pseudo-unseen classes of a small data set than
    the published 1 and than half the rate; steps and widths are f-CLSWGAN's defaults, smaller and
    faster than the published ones.

    Attributes:
        steps: generator steps over all loops. The paper counts epochs, each of ``loops`` passes
            of one step per ``batch_size`` rows.
        batch_size: rows per step.
        lr: of encoder, generator and critic.
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
        adversarial_weight: of the critic's verdict beside the VAE loss.
        attribute_weight: of the decoder's attribute loss.
        freeze_decoder: whether the generator step leaves the decoder as it is.
        synthetic_per_class: rows per unseen class for the final classifier.
        classifier_epochs, classifier_lr: of the final classifier.
    """

    steps: int = 600
    batch_size: int = 64
    lr: float = 6e-4
    feedback_lr: float = 1e-4
    decoder_lr: float = 3e-4
    hidden: int = 1024
    noise_dim: int | None = None
    attribute_norm: float = 5.0
    loops: int = 2
    feedback_training: float = 1.0
    feedback_synthesis: float = 1.0
    encoded_noise: bool = True
    critic_steps: int = 5
    gradient_penalty: float = 10.0
    adversarial_weight: float = 10.0
    attribute_weight: float = 0.01
    freeze_decoder: bool = False
    synthetic_per_class: int = 200
    classifier_epochs: int = 25
    classifier_lr: float = 1e-3


def published_settings(data_set: str, train_rows: int) -> TFVAEGANSettings:
    """The authors' settings, from ``published.json``.

    Args:
        data_set: CUB, AWA2, FLO or SUN.
        train_rows: number of training rows, to turn epochs into steps.

    Raises:
        ValueError: nothing is published for ``data_set``.
    """
    text = files("d3_adapters.tfvaegan").joinpath("published.json").read_text(encoding="utf-8")
    published = json.loads(text)
    if data_set not in published["data_sets"]:
        known = ", ".join(published["data_sets"])
        raise ValueError(f"no published TF-VAEGAN settings for {data_set!r}; there are: {known}")
    values = {**published["shared"], **published["data_sets"][data_set]}
    epochs = values.pop("epochs")
    steps_per_pass = -(-train_rows // values["batch_size"])
    return TFVAEGANSettings(steps=epochs * values["loops"] * steps_per_pass, **values)
