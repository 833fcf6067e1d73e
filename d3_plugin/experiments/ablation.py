"""``d3 ablate``: D³ with parts of it switched off, on the test rows; nothing is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from d3_plugin.distillation.settings import D3Settings
from d3_plugin.errors import Problems
from d3_plugin.experiments.clusters import Backend
from d3_plugin.experiments.comparison import run_grid
from d3_plugin.experiments.preflight import read_request

ROWS = {
    "baseline": "baseline",
    "cls": "+ L_cls: a student that only starts as the teacher",
    "cls-kl": "+ L_cls, ID²SD in label space",
    "cls-be": "+ L_cls, ID²SD in embedding space",
    "cls-id2sd": "+ L_cls, ID²SD in both",
    "cls-od": "+ L_cls, O²DBD",
    "d3_host": "+D³, host's classifier alone",
    "d3_plain": "+D³, all of it, without its offset",
    "d3": "+D³, all of it",
    "released": "+D³, released formulas",
}
"""Key and title of every row; all but ``d3_host`` and ``d3_plain`` are trained variants."""

NOTES = (
    "Percent; mean ± half-width of the 95 % t interval over seeds. Δ: paired difference to the "
    "baseline of the same seed, data draw and initialisation. Settings are fixed beforehand and "
    "nothing is chosen, on test rows or others. Rows with a student have the offset of the setting "
    "seen_offset, which changes H but not AUSUC. Oracle H, the best H over all offsets, is chosen "
    "on test rows: an upper bound. The row of L_cls alone has a second classifier that starts as "
    "the teacher, but no distillation loss: its gain comes from these two and from L_cls in the "
    "generator's loss. Only what other rows gain beyond it comes from the distillation losses."
)


def ablation(d3: D3Settings, released: D3Settings) -> dict[str, D3Settings | None]:
    """Settings of D³ by variant; ``baseline`` and ``d3`` are the runs that ``d3 compare`` makes."""
    cls = replace(d3, kl_weight=0.0, be_weight=0.0, od_weight=0.0)
    return {
        "baseline": None,
        "cls": cls,
        "cls-kl": replace(cls, kl_weight=d3.kl_weight),
        "cls-be": replace(cls, be_weight=d3.be_weight),
        "cls-id2sd": replace(d3, od_weight=0.0),
        "cls-od": replace(cls, od_weight=d3.od_weight),
        "d3": d3,
        "released": released,
    }


def ablate(
    adapter: str | None = None,
    data: str = "digits",
    out: Path = Path("runs/ablate"),
    *,
    seeds: int = 3,
    draws: int = 3,
    settings: Path | None = None,
    host: Mapping[str, Any] | None = None,
    d3: Mapping[str, Any] | None = None,
    device: str = "cpu",
    jobs: int = 1,
    backend: Backend = "loky",
    scheduler: str | None = None,
) -> dict[str, Any]:
    """Train each baseline without D³, with some of its losses, with all of D³, and as released.

    All on the same seeds; nothing is chosen. Writes ``ablation.json`` and ``ablation.html``. The
    folder may be that of a comparison: runs that both need are made once.

    Args:
        adapter, data, out, seeds, draws, settings, host, d3, device, jobs, backend, scheduler: as
            in :func:`d3_plugin.experiments.compare`.

    Returns:
        The summary of each adapter.

    Raises:
        D3Error: bad arguments, before any training starts; or runs failed.
        KeyboardInterrupt: finished runs are kept.
    """
    given = locals()
    request = read_request(given, Problems("ablate"))
    variants = ablation(request.d3, request.released)
    return run_grid(
        given,
        request,
        variants,
        {"variants": {name: used and asdict(used) for name, used in variants.items()}},
        {seed: [] for seed in range(seeds)},
        titles=ROWS,
        notes=NOTES,
        files=("ablation.json", "ablation.html"),
    )
