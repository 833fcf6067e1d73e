"""One run of a host's script in this process and folder, watched; started by run_host.py."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from seen_calls import Calls, seen_class_check
from torch import Tensor, nn

import d3_plugin
from d3_plugin import D3, D3Settings

ABSENT = (
    "tensorboardX",
    "termcolor",
    "torchvision",
    "torchvision.models",
    "torchvision.transforms",
    "requests",
)


def stub_absent() -> None:
    """Modules that hosts import for their logs, or not at all, where they are not installed."""
    absent = [n for n in ABSENT if importlib.util.find_spec(n.partition(".")[0]) is None]
    sys.modules.update({name: MagicMock() for name in absent})


def shim_torch() -> None:
    """``.cuda()`` does nothing, and ``backward`` of a scalar takes a gradient of one element."""
    backward = Tensor.backward

    def reshaped(self: Tensor, gradient: Tensor | None = None, **options: Any) -> None:
        backward(self, gradient if gradient is None else gradient.reshape(self.shape), **options)

    Tensor.backward = reshaped
    Tensor.cuda = nn.Module.cuda = lambda self, *args, **options: self


def norm(gradients: Iterable[Tensor | None]) -> float:
    return float(torch.cat([g.reshape(-1) for g in gradients if g is not None]).norm())


def watch(d3: D3, seen: dict[str, Any]) -> None:
    """Note in every step whether the loss is finite, and D³'s and all gradient at the generator."""
    loss_of, generator = d3.loss, list(d3.host.generator.parameters())
    calls = seen["calls"] = Calls(d3)

    def loss(*args: Any, **options: Any) -> Tensor:
        calls.by_d3 = True
        value = loss_of(*args, **options)
        calls.by_d3, seen["due"] = False, True
        seen["finite"] &= bool(torch.stack([value, *d3.values.values()]).isfinite().all())
        if d3.settings.weight:
            found = torch.autograd.grad(value, generator, retain_graph=True, allow_unused=True)
            seen["gradients"].append(norm(found))
        return value

    d3.loss = loss

    def stepped(*_: Any) -> None:
        if seen.pop("due", False):  # some hosts also step the generator for unseen classes
            seen["all_gradients"].append(norm(p.grad for p in generator))

    d3.host.optimizer.register_step_post_hook(stepped)
    seen["d3s"].append(d3)


def main(weight: float, script: str, arguments: list[str]) -> None:
    """Runs ``script``; leaves result.json, and state.pt with all networks and the stream."""
    shim_torch()
    stub_absent()
    seen: dict[str, Any] = {"finite": True, "gradients": [], "all_gradients": [], "d3s": []}
    attach, init = d3_plugin.attach, torch.optim.Optimizer.__init__
    optimizers: list[torch.optim.Optimizer] = []  # their networks may have no global name

    def attach_and_watch(**options: Any) -> D3:
        before = len(optimizers)
        d3 = attach(settings=D3Settings(weight=weight), **options)
        del optimizers[before:]
        watch(d3, seen)
        return d3

    def init_and_note(self: torch.optim.Optimizer, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        optimizers.append(self)

    d3_plugin.attach, torch.optim.Optimizer.__init__ = attach_and_watch, init_and_note
    sys.argv, sys.path = [script, *arguments], [str(Path(script).resolve().parent), *sys.path]
    torch.manual_seed(0)  # for hosts that forget it
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    names: dict[str, Any] = {"__name__": "__main__"}
    start = time.process_time()
    exec(compile(Path(script).read_text(encoding="utf-8"), script, "exec"), names)
    result: dict[str, Any] = {"seconds": round(time.process_time() - start, 1)}
    state = {k: v.state_dict() for k, v in names.items() if isinstance(v, nn.Module)}
    for i, optimizer in enumerate(optimizers):
        parameters = [p.detach() for group in optimizer.param_groups for p in group["params"]]
        state[f"optimizer {i}"] = {str(j): p for j, p in enumerate(parameters)}
    state["random stream"] = {"cpu": torch.get_rng_state()}
    torch.save(state, "state.pt")
    d3s, calls = seen.pop("d3s"), seen.pop("calls", None)
    if d3s:
        d3 = d3s[-1]  # continual learning attaches once per task
        forms = {who: list(lines) for who, lines in calls.forms.items()}
        result |= {"calls": forms, "own_rows": calls.own_rows}
        calls.by_d3 = True
        result["seen_class_check"] = seen_class_check(d3)
        values = {name: round(float(value), 4) for name, value in d3.values.items()}
        result |= {**seen, "student_steps": sum(d3.steps for d3 in d3s), "values": values}
        result["host_classifier"] = str(d3.evaluate(final_classifier="host"))
        result["both"] = str(d3.evaluate())
    Path("result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2], sys.argv[3:])
