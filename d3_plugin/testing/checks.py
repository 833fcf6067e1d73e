"""The checks of the kit. A failure's message ends with the docstring of its check."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from dataclasses import asdict, replace

import torch
from torch import Tensor

from d3_plugin.checks import describe
from d3_plugin.errors import AdapterError
from d3_plugin.experiments.host_state import what_changes
from d3_plugin.hooks.manager import host_families, make_manager
from d3_plugin.hosts.host import Host
from d3_plugin.hosts.host_parts import check_optimizers
from d3_plugin.hosts.module_state import eval_mode
from d3_plugin.testing.case import (
    AdapterCase,
    differences,
    expect,
    expect_none,
    on_copies,
    seeded,
    state_of,
    without_gradient,
)

Check = Callable[[AdapterCase], None]
CHECKS: list[Check] = []  # in the order of their definitions


def adapter_check(check: Check) -> Check:
    """A check of the kit, whose failures begin with its name and end with its docstring."""

    @functools.wraps(check)
    def run(case: AdapterCase) -> None:
        try:
            check(case)
        except Exception as error:  # AdapterError, or whatever the adapter's own code raises
            kind = "" if isinstance(error, AdapterError) else f"{type(error).__name__}: "
            doc = inspect.getdoc(check)
            raise AdapterError(f"{check.__name__}: {kind}{error}. Expected:\n{doc}") from error

    CHECKS.append(run)
    return run


@adapter_check
def check_description(case: AdapterCase) -> None:
    """``d3_describe_host`` returns a ``Host`` for its trainer and None for any other object.

    Begin it with ``isinstance(trainer, ...)``. If it is never called, the plugin is neither
    installed nor in ``AdapterCase(plugins=...)``, or its functions lack ``@hookimpl``.
    ``Host.generator`` is the module that ``fit()`` trains, ``Host.optimizer`` its torch optimizer,
    ``Host.data`` the trainer's data, unchanged, and ``Host.modules`` lists every module that
    synthesis runs through, including the generator.
    """
    described = make_manager(case.plugins).hook.d3_describe_host
    other = described(trainer=object())
    expect(other is None, f"d3_describe_host gives {other!r:.50} for an object of another kind")
    with seeded(0):
        host = described(trainer=case.build(case.data, 0))
    expect(isinstance(host, Host), f"d3_describe_host gives {host!r:.60} for the trainer")
    trained = any(p.requires_grad for p in host.generator.parameters())
    expect(trained, "Host.generator has no parameter that requires gradient")
    check_optimizers(host, [host.optimizer])
    used = [part for module in host.modules for part in module.modules()]
    expect(any(part is host.generator for part in used), "Host.modules lacks the generator")
    for part in ("seen_classes", "unseen_classes", "train_labels"):
        got, given = (getattr(data, part).tolist() for data in (host.data, case.data))
        expect(got == given, f"Host.data has {part} {got!s:.60}, not {given!s:.60}")


@adapter_check
def check_synthesis_form(case: AdapterCase) -> None:
    """One row per class id, with the width, dtype and device of the features in ``host.data``.

    Create noise and attributes on ``host.device``.
    """
    for make in case.trained().ways.values():
        make()


@adapter_check
def check_synthesis_order(case: AdapterCase) -> None:
    """Rows depend on their class ids, and row i belongs to ``class_ids[i]``.

    Use ``host.data.attributes[class_ids]``; do not sort or group the ids. The mean row of a
    class in a mixed call must be nearest to the mean of the same rows, from the same seed, when all
    ids are that class. Checked in eval mode: batch norm would centre the rows of a single class.
    """
    ready = case.trained()
    first, second = ready.host.data.unseen_classes[:2].tolist()
    # If sorted, grouped by class or reversed, most of these rows would be in a wrong place. Many
    # rows, so that class means differ even if the noise is not the same.
    ids = torch.tensor([first] + [second] * 200 + [first] * 200, device=ready.host.device)
    requests = ids, torch.full_like(ids, first), torch.full_like(ids, second)
    with eval_mode(ready.modules.values()):
        for way, make in ready.ways.items():
            mixed, *pure = (make(each).detach() for each in requests)
            expect(not torch.equal(*pure), f"{way} gives two classes the same rows from one seed")
            for own, wanted in enumerate((first, second)):
                mean, *means = (rows[ids == wanted].mean(dim=0) for rows in (mixed, *pure))
                distances = [float((mean - each).norm()) for each in means]
                right = distances[own] < distances[1 - own]
                expect(right, f"{way} gives rows of another class where {wanted} was asked for")


@adapter_check
def check_synthesis_finite(case: AdapterCase) -> None:
    """No NaN or Inf.

    Look for a division by 0, a logarithm of 0, or a trainer that diverges.
    """
    for way, make in case.trained().ways.items():
        expect(bool(torch.isfinite(make()).all()), f"{way} gives NaN or Inf")


@adapter_check
def check_synthesis_seed(case: AdapterCase) -> None:
    """The global seed determines the rows: the same seed gives the same rows, bit for bit.

    Draw fresh noise in every call from PyTorch's, NumPy's or Python's global stream, not from your
    own generator, and set no seed in the hook.
    """
    for way, make in case.trained().ways.items():
        rows, again, other = (make(seed=seed).detach() for seed in (1, 1, 2))
        expect(torch.equal(rows, again), f"{way} gives other rows for the same global seed")
        expect(not torch.equal(rows, other), f"{way} gives the same rows for two global seeds")


@adapter_check
def check_synthesis_gradient(case: AdapterCase) -> None:
    """Gradient reaches every trainable parameter of the generator if asked for, otherwise none.

    Look for ``.detach()``, ``.data``, ``no_grad()`` or ``enable_grad()`` in synthesis, or set
    ``Host.generator`` to the module that makes the rows.
    """
    ready = case.trained()
    expect(not ready.rows(False).requires_grad, "differentiable=False gives rows with gradient")
    ready.host.generator.zero_grad()
    rows = ready.rows(True)
    if rows.requires_grad:
        with seeded(0):  # random directions: the sum of a softmax has no gradient
            (rows * torch.randn_like(rows)).sum().backward()
    expect_none(without_gradient(ready.host.generator), "differentiable=True: no gradient in")


@adapter_check
def check_synthesis_leaves_host(case: AdapterCase) -> None:
    """Synthesis changes no parameter, buffer, gradient, flag or mode of the host.

    Restore flags, call no ``backward()``, and list in ``Host.modules`` every module that synthesis
    runs through: D³ restores what a forward pass changes in them.
    """
    ready = case.trained()
    for way, make in ready.ways.items():
        with ready.unchanged(f"{way} in train mode"):
            make()
        with eval_mode(ready.modules.values()), ready.unchanged(f"{way} in eval mode"):
            make()


@adapter_check
def check_classifier(case: AdapterCase) -> None:
    """Transform and classifier fit, (N, D) -> (N, D') -> (N, C), and change neither input nor host.

    ``d3_transform_features`` returns one row per row, real or synthetic, all of one width;
    ``d3_train_classifier`` a function from (M, D') rows to (M, C) finite scores of all classes,
    seen and unseen. Both work on copies, and the classifier is a separate module.
    """
    ready = case.trained()
    data, classes = ready.host.data, ready.host.data.num_classes
    ids = data.unseen_classes.repeat_interleave(10)
    synthetic = ready.rows(False, ids).detach()
    called = "d3_transform_features or d3_train_classifier"
    with ready.unchanged(called), seeded(0), eval_mode(ready.host.modules), torch.no_grad():
        made: list[Tensor] = []
        for given in (data.train_features, synthetic):
            rows = ready.call("d3_transform_features", features=given)
            made.append(rows)
            fits = rows.shape == (len(given), made[0].shape[-1])
            expect(fits, f"d3_transform_features makes {describe(rows)} of {describe(given)}")
        inputs = {"features": torch.cat(made), "labels": torch.cat([data.train_labels, ids])}
        with torch.enable_grad():  # evaluate() runs without gradient, but training needs it
            score = ready.call("d3_train_classifier", **inputs, num_classes=classes)
        scores = on_copies("the classifier", lambda rows: score(rows), rows=made[1])
        wanted = (len(ids), classes)
        expect(scores.shape == wanted, f"the classifier gives {describe(scores)}, not {wanted}")
        expect(bool(torch.isfinite(scores).all()), "the classifier gives NaN or Inf")


@adapter_check
def check_weight_zero(case: AdapterCase) -> None:
    """With D³ at weight 0, training ends as without D³, bit for bit.

    ``build(data, seed)`` and ``fit()`` draw only from the global random streams. Synthesis leaves
    no trace in the trainer: it has no separate random stream or counter, and runs through no module
    that is missing in ``Host.modules``.
    """
    alone, again, beside = (case.trained(weight).end() for weight in (None, None, 0.0))
    changes = what_changes(alone, again, beside)
    expect(not changes, changes)


@adapter_check
def check_training(case: AdapterCase) -> None:
    """D³ takes part in ``fit()``, and its gradient reaches every parameter of the generator.

    ``Host.generator`` and ``Host.optimizer`` are the objects that ``fit()`` trains and steps. If
    ``check_synthesis_gradient`` passes and this fails, the rows do not depend on the generator in a
    way that the student sees.
    """
    alone, beside = case.trained(), case.trained(1.0)
    expect(beside.steps > 0, "fit() makes no step of D³")
    changed = [n for n in differences(alone.end(), beside.end()) if n.startswith("generator.")]
    expect(len(changed) > 0, "training with D³ gives the same generator as without")
    with seeded(0):
        d3 = case.attached(alone.trainer, 1.0, "loss")
        d3.host.generator.zero_grad()
        d3.loss().backward()
    expect_none(without_gradient(d3.host.generator), "D³'s gradient is missing or zero in")


@adapter_check
def check_family(case: AdapterCase) -> None:
    """``d3 compare --adapter NAME`` can build and train what ``d3_host_families`` offers.

    The family has the name of the ``Host``, and the case has ``family_settings`` for a quick
    training; without both nothing is checked. ``HostFamily.settings`` is a dataclass marked
    ``frozen=True`` of numbers, strings, booleans and None, with a default for each.
    ``HostFamily.build`` seeds PyTorch, so that paired runs with and without D³ start alike, and
    makes a trainer whose ``generator`` is ``Host.generator``. After ``fit()`` its ``history`` is
    a list of dicts of ``step`` and mean losses, such as ``{"step": 10, "critic": 0.3}``.
    """
    manager = make_manager(case.plugins)
    described = manager.hook.d3_describe_host
    with seeded(0):
        name = getattr(described(trainer=case.build(case.data, 0)), "name", "")
    family, changes = host_families(manager).get(name), case.family_settings
    expect((family is None) == (changes is None), f"family {family}, family_settings {changes}")
    if family is None or changes is None:
        return
    settings = replace(family.settings(), **changes)
    json.dumps(asdict(settings))  # for results.json
    expect(settings.__dataclass_params__.frozen, f"{family.settings.__name__} is not frozen")
    starts = []
    for stream in (0, 1):  # as in d3 compare, where streams were used before
        with seeded(stream):
            trainer = family.build(case.data, settings, 0, torch.device("cpu"))
        host, generator = described(trainer=trainer), getattr(trainer, "generator", None)
        fits = isinstance(host, Host) and host.generator is generator
        expect(fits, f"build makes a {type(trainer).__name__} with generator {generator!r:.50}")
        starts.append(state_of({"generator": host.generator}))
    expect_none(differences(*starts), "build with one seed gives different")
    with seeded(0):
        trainer.fit()
    values = [value for entry in trainer.history for value in (entry.get("step"), *entry.values())]
    numbers = len(values) > 0 and all(isinstance(value, (int, float)) for value in values)
    expect(numbers, f"history after fit() is {trainer.history!r:.80}")
