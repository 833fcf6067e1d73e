"""How a host's loop and D³ call the generator, and whether synthetic rows are of their classes."""

from __future__ import annotations

import inspect
from collections import deque
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d3_plugin import D3
from d3_plugin.data import GZSLData
from d3_plugin.hosts.synthesis import synthesize


class Calls:
    """Notes the generator's calls, by who made them.

    Attributes:
        by_d3: D³ is at work; set by whoever wraps ``d3.loss``.
        forms: one line per form of a call, those of the ``loop`` and of ``d3``.
        own_rows: share of the rows of the loop's last 20 calls for seen classes whose nearest class
            mean is their own.
    """

    def __init__(self, d3: D3) -> None:
        self._data, generator = d3.host.data, d3.host.generator
        self.by_d3, self._own = False, deque[Tensor](maxlen=20)
        self.forms: dict[str, list[str]] = {"loop": [], "d3": []}
        self._parameters = inspect.signature(generator.forward)
        generator.register_forward_hook(self._note, with_kwargs=True)

    def _note(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        inputs = self._parameters.bind(*args, **kwargs).arguments
        kinds = {name: describe(value, self._data) for name, value in inputs.items()}
        form = ", ".join(f"{name}: {kind}" for name, kind in kinds.items())
        forms = self.forms["d3" if self.by_d3 else "loop"]
        if form not in forms and len(forms) < 4:
            forms.append(form)
        given = [inputs[name] for name, kind in kinds.items() if "attributes" in kind]
        if given and not self.by_d3 and isinstance(output, Tensor):
            classes = class_of(given[0].reshape(-1, given[0].shape[-1]), self._data)
            rows = output.detach().reshape(-1, output.shape[-1])
            if torch.isin(classes, self._data.seen_classes).all() and len(rows) >= 8:
                self._own.append(of_own_class(rows, classes, self._data))

    @property
    def own_rows(self) -> float | None:
        return round(torch.cat([*self._own]).float().mean().item(), 2) if self._own else None


def class_of(rows: Tensor, data: GZSLData) -> Tensor:
    """(N,) class ids of attribute rows of any length."""
    return torch.cdist(F.normalize(rows.float()), F.normalize(data.attributes)).argmin(dim=1)


def describe(value: Any, data: GZSLData) -> str:
    """One argument of a call in a few words."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return type(value).__name__ if not isinstance(value, Tensor) else "integers"
    rows = value.detach().reshape(-1, value.shape[-1]).float()
    if rows.shape[1] == data.attributes.shape[1]:
        own = data.attributes[class_of(rows, data)]
        if torch.allclose(F.normalize(rows), F.normalize(own), atol=1e-3):
            factor = rows.norm(dim=1) / own.norm(dim=1)
            if torch.allclose(factor, factor[:1], rtol=1e-3):
                return (
                    "attributes" if abs(factor[0] - 1) < 1e-3 else f"attributes * {factor[0]:.3g}"
                )
            same = torch.allclose(rows.norm(dim=1), rows.norm(dim=1)[:1], rtol=1e-3)
            return "attributes, unit rows" if same else "attributes, scaled"
    width, mean, spread = rows.shape[1], rows.mean().item(), rows.std().item()
    near = 0.05 + 4 * rows.numel() ** -0.5
    if rows.min() >= 0 and rows.max() <= 1 and abs(mean - 0.5) + abs(spread - 0.29) < near:
        return f"uniform noise {width}"
    if abs(mean) + abs(spread - 1) < near:
        return f"normal noise {width}"
    return "features" if width == data.feature_dim else f"numbers {width}"


def of_own_class(rows: Tensor, classes: Tensor, data: GZSLData) -> Tensor:
    """(N,) whether the nearest mean of training rows is that of the own, seen class."""
    seen = data.seen_classes
    means = torch.stack([data.train_features[data.train_labels == c].mean(dim=0) for c in seen])
    return seen[torch.cdist(rows.float(), means).argmin(dim=1)] == classes


def seen_class_check(d3: D3, per_class: int = 20) -> dict[str, float]:
    """The share of own rows among those that D³ synthesises of seen classes, in both modes."""
    data, generator = d3.host.data, d3.host.generator
    classes, training = data.seen_classes.repeat_interleave(per_class), generator.training
    shares = {}
    for mode in ("train", "eval"):
        generator.train(mode == "train")
        with torch.random.fork_rng():
            rows = synthesize(d3.host, d3._hooks, classes, differentiable=False)
        shares[mode] = round(of_own_class(rows, classes, data).float().mean().item(), 2)
    generator.train(training)
    return shares
