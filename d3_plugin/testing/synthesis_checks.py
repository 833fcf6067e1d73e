"""Checks of the features that an adapter synthesises."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from d3_plugin.errors import AdapterError, Problems
from d3_plugin.hosts.isolation import eval_mode
from d3_plugin.testing.case import (
    HOOK,
    ROWS,
    AdapterCase,
    TrainedHost,
    differences,
    listed,
    modules_of,
    rows_of,
    seeded,
    state_of,
    unseen_ids,
)


def check_synthesis_form(case: AdapterCase) -> None:
    """One (D,) row per class id, in the dtype and on the device of the data."""
    problems = Problems("check_synthesis_form")
    ready = case.trained()
    real = ready.host.data.train_features
    for differentiable in (False, True):
        call = f"{HOOK}(differentiable={differentiable})"
        try:
            rows = rows_of(ready, unseen_ids(ready), differentiable)
        except AdapterError as error:
            problems.add(str(error))
            continue
        problems.check(
            rows.dtype == real.dtype,
            f"{call} returns {rows.dtype}, expected that of the data, {real.dtype}; return "
            "rows.to(host.data.train_features.dtype)",
        )
        problems.check(
            rows.device == real.device,
            f"{call} returns rows on {rows.device}, expected the generator's and the data's device "
            f"{real.device}; make noise and attributes on host.device",
        )
    problems.raise_as(AdapterError)


def check_synthesis_order(case: AdapterCase) -> None:
    """Rows depend on their class ids, and stand in the order of the ids.

    The mean of the rows made for a class in a mixed call must lie nearest to what the same rows
    are, from the same seed, when all ids are that class. In eval mode: batch norm would centre the
    rows of a single class.
    """
    problems = Problems("check_synthesis_order")
    ready = case.trained()
    with eval_mode(modules_of(ready.trainer, ready.host).values()):
        _check_order(ready, problems)
    problems.raise_as(AdapterError)


def _check_order(ready: TrainedHost, problems: Problems) -> None:
    first, second = ready.host.data.unseen_classes[:2].tolist()
    # Sorted, grouped by class or reversed, most of these rows would stand in another class's place.
    # Many, so that the means differ by class even where noise does not follow the rows.
    many = 10 * ROWS
    mixed = unseen_ids(ready).new_tensor([first] + [second] * many + [first] * many)
    for differentiable in (False, True):
        call = f"{HOOK}(differentiable={differentiable})"
        rows = rows_of(ready, mixed, differentiable).detach()
        pure = [
            rows_of(ready, torch.full_like(mixed, c), differentiable).detach()
            for c in (first, second)
        ]
        if torch.equal(*pure):
            problems.add(
                f"{call} returns the same rows for class {first} and class {second} from the same "
                "seed; the rows must depend on host.data.attributes[class_ids]"
            )
            continue
        for own, of in enumerate((first, second)):
            wanted = mixed == of
            distances = [
                float((rows[wanted].mean(dim=0) - each[wanted].mean(dim=0)).norm()) for each in pure
            ]
            problems.check(
                distances[own] < distances[1 - own],
                f"{call} with mixed class ids returns, where class {of} was asked for, rows of the "
                f"other class (distance of the means {distances[own]:.3g} to class {of}'s own, "
                f"{distances[1 - own]:.3g} to the other's); row i must belong to class_ids[i]: do "
                "not sort or group the ids",
            )


def check_synthesis_finite(case: AdapterCase) -> None:
    """No NaN or Inf."""
    problems = Problems("check_synthesis_finite")
    ready = case.trained()
    for differentiable in (False, True):
        rows = rows_of(ready, unseen_ids(ready), differentiable)
        bad = int((~torch.isfinite(rows)).any(dim=1).sum())
        problems.check(
            bad == 0,
            f"{HOOK}(differentiable={differentiable}) returns NaN or Inf in {bad} of {len(rows)} "
            "rows, expected finite features; look for a division by zero, the logarithm of 0, or a "
            "learning rate at which the small trainer diverges",
        )
    problems.raise_as(AdapterError)


def check_synthesis_seed(case: AdapterCase) -> None:
    """The global seed decides everything random: the same one gives the same rows, bit for bit."""
    problems = Problems("check_synthesis_seed")
    ready = case.trained()
    for differentiable in (False, True):
        call = f"{HOOK}(differentiable={differentiable})"
        rows, again, other = (
            rows_of(ready, unseen_ids(ready), differentiable, seed).detach() for seed in (1, 1, 2)
        )
        problems.check(
            torch.equal(rows, again),
            f"{call} returns other rows for the same global seed; draw noise from PyTorch's, "
            "NumPy's or Python's global stream, not from a generator of your own",
        )
        problems.check(
            not torch.equal(rows, other),
            f"{call} returns the same rows for two global seeds; draw fresh noise in every call, "
            "and set no seed in the hook",
        )
    problems.raise_as(AdapterError)


def check_synthesis_gradient(case: AdapterCase) -> None:
    """Gradient reaches every trainable parameter of the generator when asked for, else none."""
    problems = Problems("check_synthesis_gradient")
    ready = case.trained()
    if rows_of(ready, unseen_ids(ready), False).requires_grad:
        problems.add(
            f"{HOOK}(differentiable=False) returns rows with gradient, expected none; do not "
            "switch gradient on in the hook"
        )
    parameters = {n: p for n, p in ready.host.generator.named_parameters() if p.requires_grad}
    rows = rows_of(ready, unseen_ids(ready), True)
    without = [
        name
        for name, gradient in zip(parameters, _gradients(rows, parameters), strict=True)
        if gradient is None or not gradient.any()
    ]
    problems.check(
        not without,
        f"{HOOK}(differentiable=True) passes no gradient to {len(without)} of the generator's "
        f"{len(parameters)} parameters, expected it in all: {listed(without)}; look for a "
        ".detach(), .data or no_grad() on the way, or name as Host.generator the module that makes "
        "the rows",
    )
    problems.raise_as(AdapterError)


def _gradients(rows: Tensor, parameters: dict[str, nn.Parameter]) -> Iterable[Tensor | None]:
    if not rows.requires_grad or not parameters:  # without any, check_description says so
        return [None] * len(parameters)
    with seeded(0):  # random directions: a plain sum is blind to what a softmax normalises
        loss = (rows * torch.randn_like(rows)).sum()
    return torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)


def check_synthesis_leaves_host(case: AdapterCase) -> None:
    """Synthesis changes no parameter, buffer, gradient, flag or mode of the host."""
    problems = Problems("check_synthesis_leaves_host")
    ready = case.trained()
    modules = modules_of(ready.trainer, ready.host)

    def check(differentiable: bool, mode: str) -> None:
        before = state_of(modules)
        rows_of(ready, unseen_ids(ready), differentiable)
        changed = differences(before, state_of(modules))
        problems.check(
            not changed,
            f"{HOOK}(differentiable={differentiable}) changes the host in {mode} mode, expected "
            f"everything as it was: {listed(changed)}; put flags and modes back, call no "
            "backward(), and list in Host.modules every module that synthesis runs through (their "
            "buffers are then kept)",
        )

    for differentiable in (False, True):
        check(differentiable, "train")
        with eval_mode(modules.values()):
            check(differentiable, "eval")
    problems.raise_as(AdapterError)
