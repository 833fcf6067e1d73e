"""Checkpoints with broken bytes or with parts of something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from d3_plugin import attach
from d3_plugin.data import GZSLData
from d3_plugin.experiments.checkpoint import Checkpoint
from tests.fuzz.fuzzing import ANYTHING, EXAMPLES, examples, refused
from tests.fuzz.test_fuzz_attach import parts

CPU = torch.device("cpu")


@EXAMPLES
def test_bytes(toy_data: GZSLData, tmp_path: Path, number: int) -> None:
    """Truncated, overwritten, or of another kind."""
    count = 0
    path, trainer, d3 = tmp_path / "run.pt", nn.Linear(3, 2), attach(**parts(toy_data))
    checkpoint = Checkpoint(path, trainer, [d3], CPU)
    checkpoint.save(1)
    whole = path.read_bytes()

    @examples(number)
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        nonlocal count
        content, how = bytearray(whole), data.draw(st.integers(0, 3))
        if how == 0:
            content = content[: data.draw(st.integers(0, len(content) - 1))]
        elif how == 1:
            content = bytearray(data.draw(st.binary(max_size=300)))
        else:
            for _ in range(data.draw(st.integers(1, 20))):
                place = data.draw(st.integers(0, len(content) - 1))
                content[place] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        count += refused(checkpoint.load)

    attempt()
    assert count > 0.65 * number


@EXAMPLES
def test_parts(toy_data: GZSLData, tmp_path: Path, number: int) -> None:
    count = 0
    path, trainer, d3 = tmp_path / "run.pt", nn.Linear(3, 2), attach(**parts(toy_data))
    checkpoint = Checkpoint(path, trainer, [d3], CPU)
    checkpoint.save(1)
    whole = torch.load(path, weights_only=True)
    inner = [(part, name) for part in ("trainer", "random") for name in whole[part]]
    places = [*((part,) for part in whole), *inner, *(("d3s", name) for name in whole["d3s"][0])]

    @examples(number)
    @given(st.sampled_from(places), st.one_of(ANYTHING, st.just(torch.zeros(2, 2))))
    def attempt(place: tuple[str, ...], value: Any) -> None:
        nonlocal count
        changed = {**whole}
        if len(place) == 1:
            changed[place[0]] = value
        elif place[0] == "d3s":
            changed["d3s"] = [{**whole["d3s"][0], place[1]: value}]
        else:
            changed[place[0]] = {**whole[place[0]], place[1]: value}
        try:
            torch.save(changed, path)
        except Exception:  # object() and such cannot be in a file
            return
        count += refused(checkpoint.load)

    attempt()
    assert count > 0.65 * number
