"""The lines of ten hosts' pages, inserted into imitations of these hosts in imitations/."""

from __future__ import annotations

import os
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import d3_plugin
from d3_plugin import D3
from tests.toys import SMALL, assert_equal

HERE = Path(__file__).resolve().parent
PAGES = HERE.parents[1] / "examples" / "hosts"
sys.path.insert(0, str(HERE))
from insertions import read_insertions  # noqa: E402

IMITATED: dict[str, tuple[str, dict[str, str]]] = {
    "sdgzsl": ("sdgzsl", {}),
    "gsmflow": ("gsmflow", {}),
    "cadavae": ("cadavae", {}),
    "zerodiff": ("zerodiff", {}),
    "zs3": ("gmmn", {}),
    "lisgan": ("clswgan", {"True, True": "True, False"}),
    "lsrgan": ("clswgan", {"True, True": "False, False"}),
    "zla": ("clswgan", {"True, True": "False, False", "errG": "cost_all"}),
    "gzslod": ("clswgan", {}),
    "d3gzsl": (
        "clswgan",
        {
            "True, True": "False, False",
            "errG": "G_loss",
            "data": "data_train",
            "input_res": "features",
            "input_label": "label",
        },
    ),
}
"""The script of each page, and what is put into it: MAPPED and DECODER, and names of the host."""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path) -> Iterator[None]:
    """For the files of an imitation; ``run`` undoes what monkeypatch did."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield
    os.chdir(before)


def read(name: str) -> tuple[str, list[str]]:
    """The imitation's source, and the lines to insert into it."""
    script, names = IMITATED[name]
    source = (HERE / "imitations" / f"{script}.py").read_text(encoding="utf-8")
    for old, new in names.items():
        source = re.sub(rf"\b{old}\b", new, source)
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    last = re.search(r"After the last epoch, `(print\(.*?\))`\.", page)[1]
    return source, [*(one.code for one in read_insertions(page)), last]


def run(name: str, weight: float | None, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of the imitation after its run; weight None: as it is."""
    source, lines = read(name)
    made: list[D3] = []
    attach = d3_plugin.attach

    def small(**options: Any) -> D3:
        made.append(attach(settings=replace(SMALL, weight=weight), **options))
        return made[-1]

    if weight is not None:
        monkeypatch.setattr(d3_plugin, "attach", small)
        for place, code in zip(("attach", "loss", "evaluate"), lines, strict=True):
            indent, marker = re.search(rf"^( *)(# {place} here)$", source, re.MULTILINE).groups()
            inserted = code.rstrip().replace("\n", f"\n{indent}")
            source = source.replace(marker, inserted)
    names: dict[str, Any] = {"__name__": "imitation"}
    random.seed(7)
    exec(compile(source, name, "exec"), names)
    monkeypatch.undo()
    return names | {"d3s": made}


def state(names: dict[str, Any]) -> dict[str, torch.Tensor]:
    nets = {
        f"{i}.{k}": v for i, net in enumerate(names["nets"]) for k, v in net.state_dict().items()
    }
    numbers = np.random.get_state()[1].astype(np.int64)  # noqa: NPY002
    streams = [torch.get_rng_state(), torch.from_numpy(numbers), torch.tensor(random.getstate()[1])]
    flags = [p.requires_grad for net in names["nets"] for p in net.parameters()]
    modes = [m.training for net in names["nets"] for m in net.modules()]
    noted = [*streams, torch.tensor(names["printed"]), torch.tensor(flags), torch.tensor(modes)]
    return nets | {f"noted {i}": value for i, value in enumerate(noted)}


@pytest.mark.parametrize("name", IMITATED)
def test_weight_zero_leaves_the_host_as_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = state(run(name, None, monkeypatch))
    beside = run(name, 0.0, monkeypatch)
    assert_equal(alone, state(beside))
    assert [d3.steps for d3 in beside["d3s"]] == [4]


@pytest.mark.parametrize("name", IMITATED)
def test_the_generator_learns(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = run(name, None, monkeypatch)
    before = capsys.readouterr().out
    beside = run(name, 0.5, monkeypatch)
    (d3,) = beside["d3s"]
    assert d3.steps == 4
    assert 0 < d3.values["gradient_share"] < 1
    assert before == ""
    assert re.match(r"U \d+\.\d%  S \d", capsys.readouterr().out)
    generator = [*d3.host.generator.parameters()]
    moved = [k for k, v in state(alone).items() if not torch.equal(v, state(beside)[k])]
    assert (
        len([k for k in moved if "noted" not in k]) >= sum(p.requires_grad for p in generator) > 0
    )
