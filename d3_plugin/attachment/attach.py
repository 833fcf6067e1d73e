"""``attach``: adds D³ to a trainer object or to a script's training loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pluggy
import torch
from torch import Tensor

from d3_plugin.attachment.d3 import D3
from d3_plugin.attachment.generator_loss import GeneratorLoss
from d3_plugin.attachment.hook_mode import check_free
from d3_plugin.checks import takes
from d3_plugin.data import warn_of_order
from d3_plugin.distillation.distiller import Distiller
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.distillation.teacher import pretrain_teacher
from d3_plugin.distributed import process_rank, same_start, warn_alone
from d3_plugin.errors import warn
from d3_plugin.hooks.describe import host_of
from d3_plugin.hooks.user_functions import synthesizes
from d3_plugin.hosts.generator_call import CallFailedError
from d3_plugin.hosts.host import Host
from d3_plugin.hosts.host_parts import HostParts, LoopParts, check_optimizers
from d3_plugin.hosts.isolation import RandomStream, plain_pytorch, stream_of_rank
from d3_plugin.hosts.module_state import modules_noticed, parameters_kept, uncovered
from d3_plugin.hosts.synthesis import synthesize as synthesize_rows


@dataclass(kw_only=True)
class AttachArguments(LoopParts, HostParts):
    """The arguments of :func:`attach`."""

    function: ClassVar[str] = "attach"
    needed: ClassVar[Sequence[str]] = ("generator", "optimizer", "data")

    settings: D3Settings | None = None
    gather: bool = False
    strict_plugins: bool = False
    progress: Callable[[str], None] | None = None


@takes(AttachArguments)
def attach(given: AttachArguments) -> D3:
    """Attach D³ to a host: pre-trains the teacher, builds the student, and hooks in.

    Two forms::

        d3 = attach(trainer, data=data)        # a trainer that a plugin knows; then trainer.fit()

        d3 = attach(generator=netG, optimizer=optimizerG, data=data)   # a script, then in its loop
        errG = errG + d3.loss(features=input_res, labels=input_label)  # before errG.backward()

    The host's modules, optimiser methods, ``requires_grad`` flags, train/eval modes, buffers and
    random streams are not changed.

    Args:
        trainer: a trainer object; the plugin that knows it is found by ``d3_describe_host``.
        data: :class:`~d3_plugin.data.GZSLData`, or a script's data object
            (:func:`~d3_plugin.data.host_data.as_gzsl_data` says what is read). Required for
            scripts; for a trainer it replaces what the plugin says.
        generator, optimizer: the script form: the generator, in DistributedDataParallel or not, and
            the optimiser that steps it; in loss form also several in a list.
        settings: see :class:`D3Settings`.
        mode: ``loss``: you add ``d3.loss(...)`` to the generator's loss. ``hook``: a step pre-hook
            of the generator's optimiser adds D³'s gradient, and the loop stays unedited; this comes
            after gradient clipping, so use ``loss`` in a loop that clips. Default: ``hook`` for a
            trainer, ``loss`` for a script.
        seed: of everything random in D³.
        gather: train one student for all processes of ``torch.distributed``: terms over the rows
            of all of them, student gradients averaged, other noise and classes in each. ``attach``
            and every ``loss()`` must then be called in every process; with a generator in
            DistributedDataParallel call ``loss()`` after the host's own forward pass, and
            ``backward`` on the sum. Without a process group it changes nothing.
        labels_are: form of the labels given to ``loss()``: ``class_ids`` as in the data, or
            ``mapped`` to positions among the sorted seen classes (``util.map_label`` of the
            field's scripts).
        noise_dim: width of the noise, for the default synthesis, which then replaces that of a
            trainer's plugin. Not needed where the loop calls the generator before ``loss()``.
            Default: the input width of the generator's first linear layer minus that of the
            attributes, or else that of the attributes.
        noise: ``n -> (n, Z)``, or a ``torch.distributions.Distribution``, for the default
            synthesis; needed only without a loop. Default: as the loop draws; standard normal
            until that has been seen.
        synthesize: ``(class_ids (N,), attributes (N, A)) -> features (N, D)``. Default: the
            generator alone, as the loop calls it. Before the loop's first call: with noise first
            and attributes second, or by a name of
            :data:`d3_plugin.hosts.generator_call.CONDITION_NAMES`. With a generator in
            DistributedDataParallel it should call ``generator.module``.
        modules: other networks that ``transform_features`` and the classifier use, as a list or
            dict; networks that synthesis calls are found (torch 2.6 on). Their buffers are kept,
            and they are in eval mode during ``evaluate()``. Parameters used by synthesis get
            gradient from the loss if their ``requires_grad`` is on, as in the host's own generator
            step; in hook mode only those that ``optimizer`` steps.
        transform_features: ``features (N, D) -> (N, D')``, what the host's final classifier sees
            instead of features, such as an encoder's output.
        train_classifier: the script's final classifier for ``evaluate()``:
            ``(features, labels, num_classes) -> scorer``, where ``scorer(features)`` gives (N, C)
            scores. Labels and columns are in the form that ``labels_are`` names: class ids 0..C-1
            as in ``data``, of seen and unseen classes, or mapped, with the unseen classes in their
            order behind the seen ones, S..C-1. With a script's data object they are in the form of
            its ``train_label``, as for its own classifier, also where the loop maps labels for its
            losses (f-CLSWGAN, CE-GZSL, FREE). Default: the field's linear softmax.
        synthetic_per_class: rows per unseen class for that classifier.
        plugins: plugins for this attachment, in addition to the installed ones.
        strict_plugins: raise for an installed plugin that cannot be loaded.
        progress: called with a line of text per epoch of the teacher's pre-training, and then with
            the first lines of :meth:`D3.check`; ``print``.

    Returns:
        The attached :class:`D3`.

    Raises:
        HostError: no plugin knows the trainer, or parts are missing or do not fit together; lists
            every problem found.
        DataError: the data contradict themselves.
        InputError: an option outside its range.
        PluginError: a plugin is invalid.
    """
    host, hooks = host_of(given, given.trainer, given.plugins, strict_plugins=given.strict_plugins)
    return attach_to(
        host,
        hooks,
        given,
        settings=given.settings or D3Settings(),
        seed=given.seed,
        gather=given.gather,
        progress=given.progress,
    )


def attach_to(
    host: Host,
    hooks: pluggy.HookRelay,
    parts: LoopParts,
    *,
    settings: D3Settings,
    seed: int,
    gather: bool = False,
    progress: Callable[[str], None] | None = None,
) -> D3:
    """Attach D³ to a host that is known; arguments as for :func:`attach`."""
    script = parts.generator is not None
    hooked = (parts.mode or ("loss" if script else "hook")) == "hook"
    optimizers = parts.optimizers or [host.optimizer]
    with plain_pytorch(host.generator):
        warn_of_order(host.data)
        check_optimizers(host, optimizers)
        if hooked:
            check_free(optimizers)
        if host.in_ddp and not gather:
            warn_alone()
        if script:  # a trainer may be unable to synthesise before it starts
            _try_synthesis(host, hooks, reached=settings.weight > 0)

        stream = RandomStream(seed, host.device, "training")
        with stream:
            distiller = _make_distiller(host, settings, progress, gather=gather)
        if gather:
            same_start(distiller)
            if process_rank():  # rank 0 keeps the stream of a single process
                stream = stream_of_rank(seed, host.device)
        loss = GeneratorLoss(
            host, hooks, distiller, settings, stream, parts.labels_are, hooked=hooked
        )
        d3 = D3(loss, seed)
        try:
            if script or synthesizes(hooks, host) == "d3":
                host.from_noise.watch()
            if progress is not None:
                for line in d3.check(prove=False).first_lines:
                    progress(line)
        except BaseException:  # Ctrl-C, or an error of progress=
            d3.detach()
            raise
    return d3


def _try_synthesis(host: Host, hooks: pluggy.HookRelay, *, reached: bool) -> None:
    """Finds wrong calls, further modules and side effects before the teacher is trained."""
    classes = host.data.unseen_classes[:1].repeat(2)
    reachable = reached and any(p.requires_grad for p in host.generator.parameters())

    def rows() -> Tensor:
        with RandomStream(0, host.device, "trial"):
            return synthesize_rows(host, hooks, classes, differentiable=reachable).detach()

    known = list(host.generator.parameters())
    with modules_noticed(host.modules) as found, parameters_kept(known):
        try:
            first = rows()
        except CallFailedError:  # the loop will show how it calls
            if isinstance(host.generator, torch.jit.ScriptModule):
                raise
            return
    host.modules += tuple(found)
    parameters = [p for module in host.modules for p in module.parameters()]
    before = uncovered(host.modules)
    with parameters_kept(parameters) as moved:
        second = rows()
    host.changed_in_forward = tuple(moved)
    after = uncovered(host.modules)
    changed = sorted(name for name in after if after[name] != before.get(name))
    if not changed and not torch.allclose(first, second, rtol=1e-3, atol=1e-5, equal_nan=True):
        changed = ["something outside its modules"]
    if changed:
        warn(
            f"synthesis changes {', '.join(changed)}, which D³ cannot restore: training differs "
            "from one without D³ even at weight 0"
        )


def _make_distiller(
    host: Host, settings: D3Settings, progress: Callable[[str], None] | None, *, gather: bool
) -> Distiller:
    data = host.data

    say = progress or (lambda _: None)
    positions = torch.searchsorted(data.seen_classes, data.train_labels)
    teacher = pretrain_teacher(
        data.train_features,
        positions,
        len(data.seen_classes),
        embedding_dim=settings.embedding_dim,
        lr=settings.teacher_lr,
        max_epochs=settings.teacher_epochs,
        on_epoch=lambda epoch, loss: say(f"teacher epoch {epoch + 1}: held-back loss {loss:.4f}"),
    )
    teacher_logits = teacher(data.train_features)[0]
    distiller = Distiller(
        teacher, data.num_classes, data.seen_classes, settings, teacher_logits, gather=gather
    )
    if settings.student_start == "semantic":
        distiller.student.predict_unseen(data.attributes, data.seen_classes, data.unseen_classes)
    return distiller
