"""The hooks of d3_plugin (pluggy project ``d3_plugin``).

A plugin is a module or object with functions marked :data:`hookimpl`, registered through the
entry-point group ``d3_plugin`` or passed to ``attach(..., plugins=[...])``. A plugin with
``d3_describe_host`` is called only for the hosts that it describes, a plugin without it (a logger,
an extra loss term) for every host. The first answer other than None is used: functions given to
``attach`` come first, then plugins from the last registered to the first. If all answers are None,
D³ calls the generator on noise and attributes, leaves features as they are, and trains the linear
softmax of the field. Tensors are copies: a hook may change them in place.
"""

from __future__ import annotations

from typing import Any

import pluggy
from torch import Tensor

from d3_plugin.hosts.host import Host, HostFamily, Scorer, StepBatch

PROJECT = "d3_plugin"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def d3_host_families() -> list[HostFamily]:
    """The baselines of this plugin, for ``d3 adapters`` and ``d3 compare``."""
    raise NotImplementedError


@hookspec(firstresult=True)
def d3_describe_host(trainer: Any) -> Host | None:
    """Recognise a trainer object given to ``attach``.

    Args:
        trainer: any object.

    Returns:
        Its generator, optimiser and data, or None if this is not a trainer of yours.
    """


@hookspec(firstresult=True)
def d3_synthesize_features(host: Host, class_ids: Tensor, differentiable: bool) -> Tensor | None:
    """Synthesise one feature row per class id, in one call for all of them.

    Args:
        host: the host.
        class_ids: (N,) int64, one per row, with repetitions.
        differentiable: whether gradient must reach ``host.generator``. Otherwise the call runs
            without gradient and may use a slower, better sampler.

    Returns:
        (N, D) features in the space of ``host.data``, or None.
    """


@hookspec(firstresult=True)
def d3_transform_features(host: Host, features: Tensor) -> Tensor | None:
    """Map real or synthetic features to the input of the host's final classifier.

    Args:
        host: the host.
        features: (N, D).

    Returns:
        (N, D'), for instance features and decoded attributes, or None.
    """


@hookspec(firstresult=True)
def d3_train_classifier(
    host: Host, features: Tensor, labels: Tensor, num_classes: int
) -> Scorer | None:
    """Train the host's final classifier.

    Args:
        host: the host.
        features: (N, D') transformed rows, real seen and synthetic unseen.
        labels: (N,) class ids.
        num_classes: C.

    Returns:
        A function from (M, D') features to (M, C) scores, or None.
    """


@hookspec
def d3_extra_terms(host: Host, batch: StepBatch) -> dict[str, Tensor]:
    """Extra loss terms of a step, already weighted, by name; summed in the order of their names.

    They train the student and, with ``D3Settings.weight`` above 0, the generator.

    Args:
        host: the host.
        batch: rows, labels, and the outputs of teacher and student.

    Returns:
        0-dim tensors by name; names must be unique.
    """
    raise NotImplementedError


@hookspec
def d3_after_step(host: Host, step: int, values: dict[str, Tensor]) -> None:
    """Log a step; called after the student's update.

    Args:
        host: the host.
        step: counts from 1.
        values: as :attr:`d3_plugin.D3.values`: the weighted terms and their ``total``, the
            teacher's confidence, D³'s share of the gradient; detached, 0-dim, on the host's
            device: calling ``.item()`` in every step slows a GPU down.
    """
