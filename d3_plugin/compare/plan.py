"""Which runs a comparison consists of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from d3_plugin.settings import D3Settings

Variant = Literal["baseline", "d3"]
Split = Literal["test", "validation"]


@dataclass(frozen=True)
class Run:
    """One training: a host, with or without D³, on the test or the validation problem of a seed.

    Attributes:
        adapter: name of the host family.
        data: ``digits``, ``digits-DRAW`` or a folder.
        seed: of host, D³, data draw and validation cut; the same for both variants.
        variant, split: see above.
        host: changes to the host family's default settings.
        d3: settings of D³; not used by the baseline.
        draws: how many times the final classifier is trained on freshly drawn features.
        device: where to train.
    """

    adapter: str
    data: str
    seed: int
    variant: Variant
    split: Split
    host: dict[str, Any]
    d3: D3Settings
    draws: int
    device: str

    @property
    def name(self) -> str:
        """File name of its results."""
        return f"{self.adapter}-seed{self.seed}-{self.split}-{self.variant}"

    def settings(self) -> dict[str, Any]:
        """What determines the result, as JSON types; the device is left out."""
        settings = asdict(self)
        del settings["device"]
        if self.variant == "baseline":
            del settings["d3"]
        return settings


def plan(
    adapters: list[str],
    data: str,
    seeds: int,
    *,
    host: dict[str, Any],
    d3: D3Settings,
    draws: int,
    device: str,
) -> list[Run]:
    """Both variants on both splits of every seed; the pair of a seed stands together."""
    return [
        Run(adapter, data, seed, variant, split, host, d3, draws, device)
        for adapter in adapters
        for seed in range(seeds)
        for split in ("validation", "test")
        for variant in ("baseline", "d3")
    ]
